//! serde over names and values that are text.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    fmt,
    str::FromStr,
};

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
        Unexpected, VariantAccess, Visitor,
    },
    forward_to_deserialize_any,
};

/// Names with their values: what the parameters of a request come to.
pub(super) struct Pairs<'a> {
    pairs: Vec<(Cow<'a, str>, Values<'a>)>,
    /// Whether their order says what they are, too.
    positional: bool,
}

/// A name and its value, or one of its values.
pub(super) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// What was said for one name.
struct Values<'a>(Vec<Cow<'a, str>>);

/// Why parameters are not what is asked for, and which.
#[derive(Debug)]
pub(super) struct Fault {
    message: String,
    /// Innermost first.
    path: Vec<String>,
}

struct Entries<'a> {
    pairs: std::vec::IntoIter<(Cow<'a, str>, Values<'a>)>,
    value: Option<(Cow<'a, str>, Values<'a>)>,
}

struct Elements<'a> {
    values: std::vec::IntoIter<Values<'a>>,
    index: usize,
}

struct Variant<'a>(Cow<'a, str>);

// === impl Pairs ===

impl<'a> Pairs<'a> {
    /// Pairs that can be read by name only, several of one name as a sequence.
    pub(super) fn named(pairs: Vec<Pair<'a>>) -> Self {
        let mut grouped: Vec<(Cow<'a, str>, Values<'a>)> = Vec::new();
        // A query may have thousands of names, so they are not searched one by one.
        let mut places: HashMap<_, usize> = HashMap::new();
        for (name, value) in pairs {
            match places.entry(name) {
                Entry::Occupied(place) => {
                    let (_, values) = &mut grouped[*place.get()];
                    values.0.push(value);
                }
                Entry::Vacant(vacant) => {
                    let name = vacant.key().clone();
                    vacant.insert(grouped.len());
                    grouped.push((name, Values(vec![value])));
                }
            }
        }
        Self {
            pairs: grouped,
            positional: false,
        }
    }

    /// Pairs that can also be read as a tuple, or, if there is one, as a single value.
    pub(super) fn positional(pairs: Vec<Pair<'a>>) -> Self {
        Self {
            positional: true,
            ..Self::named(pairs)
        }
    }

    /// The value of the only pair.
    fn single(mut self, visitor: &dyn de::Expected) -> Result<Values<'a>, Fault> {
        match self.pairs.pop() {
            Some((_, values)) if self.positional && self.pairs.is_empty() => Ok(values),
            _ => Err(Fault::invalid_type(Unexpected::Map, visitor)),
        }
    }
}

macro_rules! of_the_single_value {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.single(&visitor)?.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Pairs<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(Entries {
            pairs: self.pairs.into_iter(),
            value: None,
        })
    }

    of_the_single_value! {
        deserialize_bool deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_identifier
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let value = self.single(&visitor)?;
        value.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if !self.positional {
            return Err(Fault::invalid_type(Unexpected::Map, &visitor));
        }
        let values: Vec<Values<'_>> = self.pairs.into_iter().map(|(_, value)| value).collect();
        visit_elements(values, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.pairs.is_empty() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { map struct ignored_any }
}

// === impl Values ===

impl<'a> Values<'a> {
    fn single(mut self) -> Result<Cow<'a, str>, Fault> {
        match self.0.pop() {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Fault::new("given more than once".to_owned())),
        }
    }

    fn parse<T: FromStr>(self, expected: &dyn de::Expected) -> Result<T, Fault> {
        let text = self.single()?;
        let parsed = text.parse();
        parsed.map_err(|_| Fault::invalid_type(Unexpected::Str(&text), expected))
    }
}

macro_rules! parsed_as {
    ($($method:ident: $wide:ty => $visit:ident,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let value: $wide = self.parse(&visitor)?;
            visitor.$visit(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Values<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_string(self.single()?.into_owned())
    }

    // The widest of its kind: serde's visitors say what a narrower one does not hold.
    parsed_as! {
        deserialize_bool: bool => visit_bool,
        deserialize_char: char => visit_char,
        deserialize_i8: i64 => visit_i64,
        deserialize_i16: i64 => visit_i64,
        deserialize_i32: i64 => visit_i64,
        deserialize_i64: i64 => visit_i64,
        deserialize_i128: i128 => visit_i128,
        deserialize_u8: u64 => visit_u64,
        deserialize_u16: u64 => visit_u64,
        deserialize_u32: u64 => visit_u64,
        deserialize_u64: u64 => visit_u64,
        deserialize_u128: u128 => visit_u128,
    }

    // `inf` and `nan` are numbers to Rust and to no client. Not as an `f64` first: what is finite there
    // may be infinite here, which serde's visitor lets pass.
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let text = self.single()?;
        match text.parse() {
            Ok(number) if f32::is_finite(number) => visitor.visit_f32(number),
            _ => Err(Fault::invalid_type(Unexpected::Str(&text), &visitor)),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let text = self.single()?;
        match text.parse() {
            Ok(number) if f64::is_finite(number) => visitor.visit_f64(number),
            _ => Err(Fault::invalid_type(Unexpected::Str(&text), &visitor)),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_byte_buf(self.single()?.into_owned().into_bytes())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(Variant(self.single()?))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let values: Vec<Values<'_>> = self
            .0
            .into_iter()
            .map(|value| Values(vec![value]))
            .collect();
        visit_elements(values, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        str string identifier unit unit_struct map struct tuple_struct
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(message: String) -> Self {
        let path = Vec::new();
        Self { message, path }
    }

    pub(super) fn at(name: &str, message: &str) -> Self {
        Self::new(message.to_owned()).inside(name)
    }

    /// RFC 6901, as if the parameters were the fields of an object.
    pub(super) fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in self.path.iter().rev() {
            pointer.push('/');
            pointer.push_str(&step.replace('~', "~0").replace('/', "~1"));
        }
        pointer
    }

    fn inside(mut self, step: impl Into<String>) -> Self {
        self.path.push(step.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.path.last() {
            write!(f, "{name}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("missing".to_owned()).inside(field)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("unknown, expected one of {}", expected.join(", "));
        Self::new(message).inside(field)
    }
}

// === impl Entries ===

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((name, value)) = self.pairs.next() else {
            return Ok(None);
        };
        let key = Values(vec![Cow::Borrowed(&*name)]);
        let key = seed.deserialize(key).map_err(|fault| {
            // A field that is unknown has said its name already.
            if fault.path.is_empty() {
                fault.inside(&*name)
            } else {
                fault
            }
        })?;
        self.value = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((name, value)) = self.value.take() else {
            return Err(Fault::custom("a value without a name"));
        };
        seed.deserialize(value).map_err(|fault| fault.inside(name))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.pairs.len())
    }
}

// === impl Elements ===

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(value) = self.values.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        let element = seed.deserialize(value);
        element
            .map(Some)
            .map_err(|fault| fault.inside(index.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len())
    }
}

// === impl Variant ===

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name: de::value::CowStrDeserializer<'_, Fault> =
            Cow::Borrowed(&*self.0).into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(Fault::custom("a variant that text cannot be"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("a variant that text cannot be"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        Err(Fault::custom("a variant that text cannot be"))
    }
}

/// Shows `values` to the visitor of a sequence, and fails if it leaves some.
fn visit_elements<'de, V: Visitor<'de>>(
    values: Vec<Values<'_>>,
    visitor: V,
) -> Result<V::Value, Fault> {
    let count = values.len();
    let mut elements = Elements {
        values: values.into_iter(),
        index: 0,
    };
    let visited = visitor.visit_seq(&mut elements)?;
    if elements.values.len() == 0 {
        Ok(visited)
    } else {
        let expected = count - elements.values.len();
        Err(Fault::new(format!(
            "{count} values where {expected} are expected"
        )))
    }
}
