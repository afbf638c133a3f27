//! The one place where an event's definition becomes its type, its JSON and its documentation.

/// The JSON key of a field: its name, unless another one is given.
macro_rules! event_key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// Whether the word `stranger` stands after a code.
macro_rules! by_stranger {
    () => {
        false
    };
    (stranger) => {
        true
    };
}

/// Sets of fields that several kinds share.
macro_rules! event_fields {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident {
            $( $(#[doc = $fdoc:literal])+ $field:ident $(as $key:literal)? : $ty:ty ),* $(,)?
        }
    )*) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $fdoc])+ pub $field: $ty, )*
        }

        impl $crate::audit::Fields for $name {
            const FIELDS: &'static [$crate::audit::FieldInfo] = &[$(
                $crate::audit::FieldInfo::new::<$ty>(
                    event_key!($field $($key)?),
                    concat!($($fdoc, "\n"),+),
                ),
            )*];

            fn write<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $(
                    if !$crate::audit::Field::is_absent(&self.$field) {
                        map.serialize_entry(event_key!($field $($key)?), &self.$field)?;
                    }
                )*
                Ok(())
            }

            fn append(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
                $(
                    if !$crate::audit::Field::is_absent(&self.$field) {
                        out.extend_from_slice(
                            concat!(",\"", event_key!($field $($key)?), "\":").as_bytes(),
                        );
                        $crate::audit::Field::append(&self.$field, out)?;
                    }
                )*
                Ok(())
            }

            fn read(
                map: &mut serde_json::Map<String, serde_json::Value>,
            ) -> Result<Self, $crate::audit::FieldError> {
                Ok(Self {
                    $( $field: $crate::audit::field::take(map, event_key!($field $($key)?))?, )*
                })
            }
        }
    )*};
}

/// Kinds of events. A kind has one code (`code "T2000I";`) or several, one of which every event
/// names (`codes SomethingCode { … }`), then sets of shared fields, then fields of its own. The
/// word `stranger` after a code marks what somebody without an identity can cause.
macro_rules! events {
    (
        area $area:literal;
        $(
            $(#[doc = $doc:literal])+
            $name:ident = $event:literal {
                $(code $code:literal $(($stranger:ident))? ;)?
                $(codes $codes:ident {
                    $(
                        $(#[doc = $cdoc:literal])+
                        $variant:ident = $vcode:literal $(($vstranger:ident))?
                    ),+ $(,)?
                })?
                $(with $shared:ident: $set:ty;)*
                $(
                    $(#[doc = $fdoc:literal])+
                    $field:ident $(as $key:literal)? : $ty:ty
                ),* $(,)?
            }
        )*
    ) => {$(
        $(
            #[doc = concat!("How a `", $event, "` went.")]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            #[non_exhaustive]
            pub enum $codes {
                $(
                    $(#[doc = $cdoc])+
                    #[doc = concat!("Code `", $vcode, "`.")]
                    $variant,
                )+
            }

            impl $codes {
                /// The code as it is written.
                pub fn as_str(self) -> &'static str {
                    match self {
                        $( Self::$variant => $vcode, )+
                    }
                }

                fn parse(code: &str) -> Option<Self> {
                    match code {
                        $( $vcode => Some(Self::$variant), )+
                        _ => None,
                    }
                }
            }
        )?

        $(#[doc = $doc])+
        #[doc = ""]
        #[doc = concat!("Written as `", $event, "`", $(", code `", $code, "`",)? ".")]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(
                /// How it went.
                pub code: $codes,
            )?
            $(
                #[doc = concat!("The fields of [`", stringify!($set), "`].")]
                pub $shared: $set,
            )*
            $( $(#[doc = $fdoc])+ pub $field: $ty, )*
        }

        impl $name {
            const DOCS: &'static str = concat!($($doc, "\n"),+);
        }

        impl $crate::audit::EventKind for $name {
            const KIND: $crate::audit::Kind = $crate::audit::Kind::new(
                $event,
                $area,
                Self::DOCS,
                &[
                    $( $crate::audit::Code::new($code, by_stranger!($($stranger)?), Self::DOCS), )?
                    $( $(
                        $crate::audit::Code::new(
                            $vcode,
                            by_stranger!($($vstranger)?),
                            concat!($($cdoc, "\n"),+),
                        ),
                    )+ )?
                ],
                &[$( <$set as $crate::audit::Fields>::FIELDS, )*],
                &[$(
                    $crate::audit::FieldInfo::new::<$ty>(
                        event_key!($field $($key)?),
                        concat!($($fdoc, "\n"),+),
                    ),
                )*],
            );

            fn code(&self) -> &'static str {
                $( let _: &Self = self; $code )?
                $( $codes::as_str(self.code) )?
            }

            fn write_fields<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $( $crate::audit::Fields::write(&self.$shared, map)?; )*
                $(
                    if !$crate::audit::Field::is_absent(&self.$field) {
                        map.serialize_entry(event_key!($field $($key)?), &self.$field)?;
                    }
                )*
                Ok(())
            }

            fn append_fields(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
                $( $crate::audit::Fields::append(&self.$shared, out)?; )*
                $(
                    if !$crate::audit::Field::is_absent(&self.$field) {
                        out.extend_from_slice(
                            concat!(",\"", event_key!($field $($key)?), "\":").as_bytes(),
                        );
                        $crate::audit::Field::append(&self.$field, out)?;
                    }
                )*
                Ok(())
            }

            fn read_fields(
                code: &str,
                map: &mut serde_json::Map<String, serde_json::Value>,
            ) -> Result<Self, $crate::audit::FieldError> {
                $(
                    if code != $code {
                        return Err($crate::audit::FieldError::UnknownCode($event));
                    }
                )?
                Ok(Self {
                    $(
                        code: $codes::parse(code)
                            .ok_or($crate::audit::FieldError::UnknownCode($event))?,
                    )?
                    $( $shared: <$set as $crate::audit::Fields>::read(map)?, )*
                    $( $field: $crate::audit::field::take(map, event_key!($field $($key)?))?, )*
                })
            }
        }
    )*

        /// The kinds that this file defines; a test checks that [`super::Event`] has them all.
        #[cfg(test)]
        pub(super) const DEFINED: &[&str] = &[$($event),*];
    };
}

/// The enum of all kinds, and what is chosen by kind.
macro_rules! event_catalogue {
    ($($name:ident),* $(,)?) => {
        /// Something that happened, of a kind that is defined here, or one that was read and is
        /// not.
        ///
        /// ```
        /// use access_core::audit::{Event, events::UserLogout};
        /// let event: Event = UserLogout { user: "alice".into(), addr_remote: None }.into();
        /// assert_eq!(event.name(), "user.logout");
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        #[allow(clippy::large_enum_variant)] // Events are moved a few times and never kept in bulk.
        pub enum Event {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
            /// An event of another version of this program, as it was read.
            Unknown(UnknownEvent),
        }

        $(
            impl From<$name> for Event {
                fn from(event: $name) -> Self {
                    Self::$name(event)
                }
            }
        )*

        static KINDS: &[Kind] = &[$( <$name as EventKind>::KIND, )*];

        impl Event {
            /// Its name, such as `session.start`.
            pub fn name(&self) -> &str {
                match self {
                    $( Self::$name(_) => <$name as EventKind>::KIND.name, )*
                    Self::Unknown(event) => event.name.as_str(),
                }
            }

            /// Its code, such as `T2000I`.
            pub fn code(&self) -> &str {
                match self {
                    $( Self::$name(event) => event.code(), )*
                    Self::Unknown(event) => event.code.as_str(),
                }
            }

            /// Its kind; nothing for one that is unknown here.
            pub fn kind(&self) -> Option<Kind> {
                match self {
                    $( Self::$name(_) => Some(<$name as EventKind>::KIND), )*
                    Self::Unknown(_) => None,
                }
            }

            pub(super) fn write_fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                match self {
                    $( Self::$name(event) => event.write_fields(map), )*
                    Self::Unknown(event) => {
                        for (key, value) in &event.fields {
                            map.serialize_entry(key, value)?;
                        }
                        Ok(())
                    }
                }
            }

            /// Appends the same to an object that has fields already.
            pub(super) fn append_fields(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
                match self {
                    $( Self::$name(event) => event.append_fields(out), )*
                    Self::Unknown(event) => super::envelope::append_map(out, &event.fields),
                }
            }

            /// Reads the fields of a known kind; what is left in `map` is none of its.
            fn read_known(
                name: &str,
                code: &str,
                map: &mut Map<String, Value>,
            ) -> Option<Result<Self, FieldError>> {
                $(
                    if name == <$name as EventKind>::KIND.name {
                        return Some($name::read_fields(code, map).map(Self::from));
                    }
                )*
                None
            }
        }
    };
}
