//! Patterns of names.

/// A pattern in which `*` stands for any run of characters.
#[derive(Debug)]
pub(crate) struct Glob(pub(crate) String);

impl Glob {
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            let Some((_, after)) = rest.split_once(piece) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    }

    /// Whether there is a name that both match.
    pub(super) fn meets(&self, other: &Glob) -> bool {
        fn meet(one: &[u8], other: &[u8]) -> bool {
            match (one.split_first(), other.split_first()) {
                (None, None) => true,
                (Some((b'*', after)), _) => {
                    meet(after, other) || other.split_first().is_some_and(|(_, rest)| meet(one, rest))
                }
                (_, Some((b'*', _))) => meet(other, one),
                (Some((a, one)), Some((b, other))) => a == b && meet(one, other),
                (None, Some(_)) | (Some(_), None) => false,
            }
        }
        meet(self.0.as_bytes(), other.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, name, expected) in [
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "ac", false),
            ("*", "", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(Glob(glob.to_owned()).matches(name), expected, "{glob} {name}");
        }
        for (one, other, expected) in [
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "*-mini", true),
            ("gpt-4*", "gpt-5*", false),
            ("a*b*c", "*xb*", true),
            ("a*", "*", true),
            ("a", "ab", false),
            ("*", "", true),
        ] {
            let meets = |one: &str, other: &str| Glob(one.to_owned()).meets(&Glob(other.to_owned()));
            assert_eq!((meets(one, other), meets(other, one)), (expected, expected), "{one} {other}");
        }
    }
}
