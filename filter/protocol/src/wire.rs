//! `wire!` declares a JSON object of a protocol: every member optional, unknown members kept in `extras`,
//! everything borrowed from the body, one pass over the bytes, a known member given twice refused.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::text::Text;

/// Declares structs like `struct Choice<'a> { index: u64, finish_reason: Text<'a>, kind = "type": Text<'a> }`.
/// Each becomes a struct whose fields are `Option`s (JSON `null` reads as `None`, `None` is not written), with
/// a field `extras`, and `Deserialize`, `Serialize`, `Default`, `Clone`, `Debug`, `PartialEq`. `= "type"` names
/// the member where it differs from the field, and `| "also"` another spelling that is read but not written.
#[macro_export]
macro_rules! wire {
    ($( $(#[$meta:meta])* $vis:vis struct $name:ident<'a> {
        $( $(#[$field_meta:meta])* $field:ident $(= $key:literal $(| $alias:literal)*)? : $ty:ty ),* $(,)?
    } )+) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $name<'a> {
            $( $(#[$field_meta])* pub $field: Option<$ty>, )*
            /// Members that this codec does not model.
            pub extras: $crate::text::Extras<'a>,
        }
        impl<'de: 'a, 'a> serde::de::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members<'a>(std::marker::PhantomData<&'a ()>);
                impl<'de: 'a, 'a> serde::de::Visitor<'de> for Members<'a> {
                    type Value = $name<'a>;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name<'a>, A::Error> {
                        let mut object = $name::default();
                        while let Some(key) = map.next_key::<$crate::text::Text<'a>>()? {
                            $( if key == $crate::wire!(@key $field $($key)?) $($(|| key == $alias)*)? {
                                if object.$field.is_some() {
                                    return Err(serde::de::Error::duplicate_field($crate::wire!(@key $field $($key)?)));
                                }
                                object.$field = map.next_value()?;
                                continue;
                            } )*
                            let value = map.next_value()?;
                            object.extras.0.push((key, value));
                        }
                        Ok(object)
                    }
                }
                deserializer.deserialize_map(Members(std::marker::PhantomData))
            }
        }
        impl serde::ser::Serialize for $name<'_> {
            fn serialize<S: serde::ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $( if let Some(value) = &self.$field {
                    map.serialize_entry($crate::wire!(@key $field $($key)?), value)?;
                } )*
                for (name, value) in &self.extras.0 {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    )+ };
    (@key $field:ident $key:literal) => { $key };
    (@key $field:ident) => { stringify!($field) };
}

/// A member that is a string or something else (a list, an object): OpenAI's and Anthropic's `content`,
/// OpenAI's `tool_choice` and `stop`.
#[derive(Clone, Debug, PartialEq)]
pub enum StringOr<'a, T> {
    Text(Text<'a>),
    Other(T),
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for StringOr<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<'a, T>(PhantomData<(&'a (), T)>);
        impl<'de: 'a, 'a, T: Deserialize<'de>> Visitor<'de> for Either<'a, T> {
            type Value = StringOr<'a, T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list or an object")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(StringOr::Text(Text::borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(StringOr::Text(Text::from(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                T::deserialize(SeqAccessDeserializer::new(seq)).map(StringOr::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(StringOr::Other)
            }
        }
        deserializer.deserialize_any(Either(PhantomData))
    }
}
impl<T: Serialize> Serialize for StringOr<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            StringOr::Text(text) => text.serialize(serializer),
            StringOr::Other(other) => other.serialize(serializer),
        }
    }
}

/// A count of tokens as providers write it: a few add a decimal point or quotes. An answer is worth more than its
/// count, so what is below zero or too large is the nearest number that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Count, E> {
                Ok(Count(count))
            }
            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(count).unwrap_or(0)))
            }
            fn visit_f64<E: de::Error>(self, count: f64) -> Result<Count, E> {
                Ok(Count(count as u64))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Count, E> {
                let count = text.trim().parse::<f64>();
                count
                    .map(|count| Count(count as u64))
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// What an answer says about itself beside its content. The content is worth more, so what cannot be read is not told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told<T>(Option<T>);

impl<T> Told<T> {
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
    pub fn take(self) -> Option<T> {
        self.0
    }
}
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Told<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Ok(Told(serde_json::from_str(raw.get()).ok()))
    }
}
impl<T: Serialize> Serialize for Told<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Reads a JSON text; on a fault says where (`messages[0].content[1].type`) and what.
pub fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    let fast = serde_json::from_str::<T>(text);
    let Err(error) = fast else {
        return fast.map_err(|error| Fault { path: String::new(), reason: error.to_string() });
    };
    // Only a faulty body pays for knowing the place.
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(located) => {
            let path = located.path().to_string();
            let path = if path == "." || path == "?" { String::new() } else { path };
            Err(Fault { path, reason: located.into_inner().to_string() })
        }
        Ok(_) => Err(Fault { path: String::new(), reason: error.to_string() }),
    }
}

/// Why a JSON text could not be read, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON path in the text that was read, such as `messages[0].role`; empty for the whole.
    pub path: String,
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    wire! {
        struct Inner<'a> { kind = "type": Text<'a>, size: u64 }
        struct Outer<'a> { name: Text<'a>, items: Vec<Inner<'a>>, stop: StringOr<'a, Vec<Text<'a>>> }
    }

    #[test]
    fn keeps_what_it_does_not_know_and_writes_it_back() {
        let json =
            r#"{"name":"n","items":[{"type":"t","size":1,"z":[1, 2]}],"stop":["a"],"more":{"b":1,"a":2}}"#;
        let outer: Outer<'_> = read(json).unwrap();
        assert_eq!(outer.items.as_ref().unwrap()[0].extras.names().collect::<Vec<_>>(), ["z"]);
        assert_eq!(serde_json::to_string(&outer).unwrap(), json);
    }

    #[test]
    fn counts_in_every_spelling() {
        let counts: Vec<Count> =
            serde_json::from_str(r#"[5, 5.0, "5", -5, 1e30, 99999999999999999999]"#).unwrap();
        assert_eq!(counts, [5, 5, 5, 0, u64::MAX, u64::MAX].map(Count));
        assert!(serde_json::from_str::<Count>("{}").is_err());
    }

    #[test]
    fn names_the_place_of_a_fault() {
        let fault = read::<Outer<'_>>(r#"{"items":[{"type":"t"},{"type":5}]}"#).unwrap_err();
        assert_eq!(fault.path, "items[1].type");
        let fault = read::<Outer<'_>>(r#"{"name":"a","name":"b"}"#).unwrap_err();
        assert!(fault.reason.contains("duplicate field `name`"), "{fault:?}");
    }
}
