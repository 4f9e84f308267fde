//! A JSON object whose members stay bytes until set: the edits of same-protocol requests and chunks.

use std::fmt;
use std::ops::Range;

use memchr::memmem;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::text::Text;

/// The top level of a JSON object, by its members' places in the text.
pub struct RawObject<'a> {
    text: &'a str,
    members: Vec<(Text<'a>, Range<usize>)>,
    open: usize,
}

/// One named edit of a member.
pub enum Edit<'e> {
    /// Give the member this JSON text; add it if it is not there.
    Set(&'e str, &'e str),
    /// Take the member away if it is there.
    Remove(&'e str),
}

/// What becomes of one item of a list.
pub enum Item {
    Keep,
    Put(String),
    Drop,
}

/// Whether a JSON text may have this in a string, as it is or with some of its letters escaped. Encoders escape no letter
/// of ASCII, but parsers read `max_tok\u0065ns` as `max_tokens`, so who wants to be overlooked may.
pub fn may_say(json: &str, word: &str) -> bool {
    let letter = |at: usize| matches!(json.as_bytes().get(at + ESCAPE.len()), Some(b'4'..=b'7'));
    memmem::find(json.as_bytes(), word.as_bytes()).is_some()
        || memmem::find_iter(json.as_bytes(), ESCAPE).any(letter)
}

/// Of a character of ASCII; letters and the underscore have 4 to 7 next.
const ESCAPE: &[u8] = br"\u00";

/// A list with some of its items changed, the others as they were; `None`: none of them, or no list.
pub fn each(list: &str, change: impl Fn(&str) -> Item) -> Option<String> {
    let items: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    let changed: Vec<Item> = items.iter().map(|item| change(item.get())).collect();
    if changed.iter().all(|item| matches!(item, Item::Keep)) {
        return None;
    }
    let texts = items.iter().zip(&changed).filter_map(|(item, changed)| match changed {
        Item::Keep => Some(item.get()),
        Item::Put(text) => Some(text.as_str()),
        Item::Drop => None,
    });
    Some(format!("[{}]", texts.collect::<Vec<_>>().join(",")))
}

impl<'a> RawObject<'a> {
    /// Reads the top level. `None`: not a JSON object.
    pub fn parse(text: &'a str) -> Option<Self> {
        let Members(found) = serde_json::from_str::<Members<'a>>(text).ok()?;
        let start = text.as_ptr() as usize;
        let members = found
            .into_iter()
            .map(|(name, value)| {
                let from = (value.get().as_ptr() as usize).saturating_sub(start);
                (name, from..from + value.get().len())
            })
            .collect();
        Some(RawObject { text, members, open: text.find('{')? })
    }

    /// The JSON text of a member (of the last one of that name, as most parsers take it).
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let (_, place) = self.members.iter().rev().find(|(key, _)| key == name)?;
        self.text.get(place.clone())
    }

    /// The text with the edits made; every other byte as it was.
    pub fn edit(&self, edits: &[Edit<'_>]) -> String {
        let mut cuts: Vec<(Range<usize>, &str)> = Vec::with_capacity(edits.len());
        let mut gone = vec![false; self.members.len()];
        let mut added = String::new();
        for edit in edits {
            let (Edit::Set(name, _) | Edit::Remove(name)) = edit;
            let mut found = false;
            for ((_, place), gone) in self.members.iter().zip(&mut gone).filter(|((key, _), _)| key == name) {
                found = true;
                match edit {
                    Edit::Set(_, json) => cuts.push((place.clone(), json)),
                    Edit::Remove(_) => *gone = true,
                }
            }
            if let (Edit::Set(name, json), false) = (edit, found) {
                let comma = if added.is_empty() { "" } else { "," };
                let name = serde_json::to_string(name).unwrap_or_default();
                added.push_str(&format!("{comma}{name}:{json}"));
            }
        }
        if !added.is_empty() {
            added.push_str(if gone.iter().all(|gone| *gone) { "" } else { "," });
            cuts.push((self.open + 1..self.open + 1, added.as_str()));
        }
        cuts.extend(self.without(&gone).map(|place| (place, "")));
        cuts.sort_by_key(|(place, _)| (place.start, place.end));
        splice(self.text, &cuts)
    }

    /// Places of the members that go, each with its name and one comma, so that a valid object is left.
    fn without(&self, gone: &[bool]) -> impl Iterator<Item = Range<usize>> {
        // Those before the first that stays have its comma to take; each of the others, the one before it.
        let first = gone.iter().take_while(|gone| **gone).count();
        let before = first.checked_sub(1).and_then(|last| self.members.get(last)).map(|(_, last)| {
            let rest = self.text.get(last.end..).unwrap_or_default();
            let after = rest.find(|c: char| !c.is_ascii_whitespace());
            let comma = after.filter(|at| rest.as_bytes().get(*at) == Some(&b','));
            self.open + 1..comma.map_or(last.end, |at| last.end + at + 1)
        });
        let ends = self.members.iter().map(|(_, place)| place.end);
        let later = ends.clone().zip(ends.skip(1)).zip(gone.iter().skip(1)).skip(first.saturating_sub(1));
        before.into_iter().chain(later.filter(|(_, gone)| **gone).map(|((from, to), _)| from..to))
    }
}

/// `text` with each place replaced; the places are sorted and do not overlap (an overlap is skipped).
fn splice(text: &str, cuts: &[(Range<usize>, &str)]) -> String {
    let mut out = String::with_capacity(text.len() + cuts.iter().map(|(_, new)| new.len()).sum::<usize>());
    let mut from = 0;
    for (place, new) in cuts {
        if place.start < from {
            continue;
        }
        out.push_str(text.get(from..place.start).unwrap_or_default());
        out.push_str(new);
        from = place.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

struct Members<'a>(Vec<(Text<'a>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some(entry) = map.next_entry()? {
                    members.push(entry);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Walk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_touch_nothing_else() {
        let text = " {\"model\" : \"a\", \"b\": [1, 2],\n \"c\":null } ";
        let object = RawObject::parse(text).unwrap();
        assert_eq!(object.get("b"), Some("[1, 2]"));
        assert_eq!(object.edit(&[]), text);
        assert_eq!(object.edit(&[Edit::Set("model", "\"x\"")]), text.replace("\"a\"", "\"x\""));
        assert_eq!(object.edit(&[Edit::Remove("model")]), " { \"b\": [1, 2],\n \"c\":null } ");
        assert_eq!(object.edit(&[Edit::Remove("c")]), " {\"model\" : \"a\", \"b\": [1, 2] } ");
        assert_eq!(
            object.edit(&[Edit::Set("d", "1"), Edit::Remove("zz")]),
            text.replacen('{', "{\"d\":1,", 1)
        );
        assert_eq!(RawObject::parse("{}").unwrap().edit(&[Edit::Set("d", "1")]), "{\"d\":1}");
        assert!(RawObject::parse("[1]").is_none());
        let only = RawObject::parse("{\"a\":1}").unwrap();
        assert_eq!(only.edit(&[Edit::Remove("a")]), "{}");
        assert_eq!(
            only.edit(&[Edit::Remove("a"), Edit::Set("b", "2"), Edit::Set("c", "3")]),
            r#"{"b":2,"c":3}"#
        );
    }

    #[test]
    fn a_word_is_seen_however_it_is_spelled() {
        for json in [r#"{"seed":1}"#, r#"{"s\u0065ed":1}"#, r#"{"\u0073\u0065\u0065\u0064":1}"#] {
            assert!(may_say(json, "\"seed\""), "{json}");
        }
        // What encoders do escape: all beside ASCII, control characters, and what HTML has a meaning for.
        for json in ["{}", r#"{"speed":1}"#, r#"{"a":"\u00e9\u0007\u003c\u0026\u6161"}"#] {
            assert!(!may_say(json, "\"seed\""), "{json}");
        }
    }

    #[test]
    fn any_members_may_go_together() {
        let text = r#"{ "a":1 , "b":2 ,"c" : 3, "b":4 }"#;
        let object = RawObject::parse(text).unwrap();
        for wanted in 0..16u32 {
            let names = ["a", "b", "c", "new"];
            let edits = names.iter().enumerate().filter(|(bit, _)| wanted >> bit & 1 == 1).map(
                |(_, name)| match *name {
                    "new" => Edit::Set("new", "0"),
                    name => Edit::Remove(name),
                },
            );
            let edited = object.edit(&edits.collect::<Vec<_>>());
            let left: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&edited).unwrap();
            for (bit, name) in names.iter().enumerate() {
                assert_eq!(
                    left.contains_key(*name),
                    (wanted >> bit & 1 == 1) == (*name == "new"),
                    "{edited}"
                );
            }
        }
    }
}
