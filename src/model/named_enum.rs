//! A macro for closed lists of names that appear in files and reports.

/// Defines an enum whose values have stable names. The values are ordered as listed.
macro_rules! named_enum {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $type { $($(#[$vdoc])* $variant,)+ }

        impl $type {
            /// All values, in the order of the list.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// All names, in the order of the list.
            pub const NAMES: &[&str] = &[$($name,)+];

            /// Returns the value with this name; `None` if the name is unknown.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == text)
            }

            /// Returns the stable name used in files and reports.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}
pub(crate) use named_enum;
