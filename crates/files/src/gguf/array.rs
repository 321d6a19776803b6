//! Metadata arrays: a checked span of the file, decoded as it is iterated. A vocabulary of 262,144 strings costs one
//! walk over its lengths when the file is opened and no allocation at all.

use std::iter::FusedIterator;

use super::cursor::{Cursor, Flaw};
use super::value::{MAX_STRING, Value, ValueType};

/// An array of metadata values of one type, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    item: ValueType,
    len: usize,
    /// The items as the file holds them; checked to hold exactly `len`.
    data: &'a [u8],
}

impl<'a> Array<'a> {
    /// `len` items of type `item` that were checked before.
    pub(super) fn new(item: ValueType, len: usize, data: &'a [u8]) -> Array<'a> {
        Array { item, len, data }
    }

    pub(super) fn data(&self) -> &'a [u8] {
        self.data
    }

    /// The type of the items.
    pub fn item_type(&self) -> ValueType {
        self.item
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items of an array of strings, as bytes; `None` when the items are something else.
    pub fn strings(&self) -> Option<Strings<'a>> {
        (self.item == ValueType::String).then_some(Strings { left: self.len, data: self.data })
    }

    /// The items of an array of exactly the type `T`.
    pub fn numbers<T: Number>(&self) -> Option<impl ExactSizeIterator<Item = T> + Clone + 'a> {
        (self.item == T::TYPE).then(|| self.data.chunks_exact(size_of::<T>()).map(T::from_slice))
    }

    /// The items of an array of any integer type; `None` when they are something else, or when an item of a `u64`
    /// array exceeds `i64`.
    pub fn integers(&self) -> Option<Integers<'a>> {
        match self.item {
            ValueType::U64 if self.numbers::<u64>()?.any(|v| i64::try_from(v).is_err()) => None,
            ValueType::U8
            | ValueType::I8
            | ValueType::U16
            | ValueType::I16
            | ValueType::U32
            | ValueType::I32
            | ValueType::U64
            | ValueType::I64 => Some(Integers { item: self.item, data: self.data }),
            _ => None,
        }
    }

    /// The items of an array of either float type, rounded to `f32`.
    pub fn floats(&self) -> Option<Floats<'a>> {
        matches!(self.item, ValueType::F32 | ValueType::F64)
            .then_some(Floats { item: self.item, data: self.data })
    }

    /// The items of an array of bools.
    pub fn bools(&self) -> Option<impl ExactSizeIterator<Item = bool> + Clone + 'a> {
        (self.item == ValueType::Bool).then(|| self.data.iter().map(|&byte| byte != 0))
    }

    /// All items, whatever their type, inner arrays included.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + 'a {
        let (item, mut cursor) = (self.item, Cursor::new(self.data));
        (0..self.len).map_while(move |_| Value::read(&mut cursor, item).ok())
    }

    /// Reads the item type and the length, and checks the items; `depth` more levels of nesting are allowed.
    pub(super) fn read(cursor: &mut Cursor<'a>, depth: u32) -> Result<Array<'a>, Flaw> {
        let offset = cursor.position();
        if depth == 0 {
            return Err(Flaw::bad(offset, "arrays nested at most 4 deep", "deeper nesting"));
        }
        let item = ValueType::read(cursor)?;
        let len = cursor.count(item.min_bytes(), u64::MAX)?;
        let start = cursor.position();
        let data = match item {
            ValueType::String => cursor.span(|inner| {
                for _ in 0..len {
                    inner.string(MAX_STRING)?;
                }
                Ok(())
            })?,
            ValueType::Array => cursor.span(|inner| {
                for _ in 0..len {
                    Array::read(inner, depth - 1)?;
                }
                Ok(())
            })?,
            // `count` has checked that the product fits into the file.
            fixed => cursor.take((len as u64).saturating_mul(fixed.min_bytes()))?,
        };
        if item == ValueType::Bool
            && let Some(at) = data.iter().position(|&byte| byte > 1)
        {
            return Err(Flaw::bad(start + at, "a bool, 0 or 1", data[at]));
        }
        Ok(Array { item, len, data })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.item.id().to_le_bytes());
        out.extend((self.len as u64).to_le_bytes());
        out.extend(self.data);
    }
}

/// A number type that arrays of metadata can hold.
pub trait Number: Copy + private::Sealed + 'static {
    /// Its type in the file.
    const TYPE: ValueType;
    #[doc(hidden)]
    fn from_slice(bytes: &[u8]) -> Self;
    #[doc(hidden)]
    fn extend(self, out: &mut Vec<u8>);
}

mod private {
    pub trait Sealed {}
}

macro_rules! number {
    ($($variant:ident $type:ident),*) => {$(
        impl private::Sealed for $type {}
        impl Number for $type {
            const TYPE: ValueType = ValueType::$variant;
            #[inline]
            fn from_slice(bytes: &[u8]) -> Self {
                bytes.try_into().map_or(0 as $type, $type::from_le_bytes)
            }
            fn extend(self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        }
    )*};
}
number!(U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, F32 f32, U64 u64, I64 i64, F64 f64);

/// The strings of an array, as the bytes that the file holds: usually UTF-8, but a file may hold anything.
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    left: usize,
    data: &'a [u8],
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.data.split_first_chunk::<8>()?;
        let (text, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        self.data = rest;
        self.left = self.left.saturating_sub(1);
        Some(text)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}
impl FusedIterator for Strings<'_> {}

/// Integers of an array of any integer type.
#[derive(Clone, Debug)]
pub struct Integers<'a> {
    item: ValueType,
    data: &'a [u8],
}

impl Iterator for Integers<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        let (bytes, rest) = self.data.split_at_checked(self.item.bytes()?).filter(|(b, _)| !b.is_empty())?;
        self.data = rest;
        Some(match self.item {
            ValueType::U8 => u8::from_slice(bytes).into(),
            ValueType::I8 => i8::from_slice(bytes).into(),
            ValueType::U16 => u16::from_slice(bytes).into(),
            ValueType::I16 => i16::from_slice(bytes).into(),
            ValueType::U32 => u32::from_slice(bytes).into(),
            ValueType::I32 => i32::from_slice(bytes).into(),
            // Checked by `Array::integers` to fit.
            ValueType::U64 => i64::try_from(u64::from_slice(bytes)).unwrap_or(i64::MAX),
            _ => i64::from_slice(bytes),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.data.len() / self.item.bytes().unwrap_or(1);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Integers<'_> {}
impl FusedIterator for Integers<'_> {}

/// Floats of an array of either float type.
#[derive(Clone, Debug)]
pub struct Floats<'a> {
    item: ValueType,
    data: &'a [u8],
}

impl Iterator for Floats<'_> {
    type Item = f32;

    #[inline]
    fn next(&mut self) -> Option<f32> {
        let (bytes, rest) = self.data.split_at_checked(self.item.bytes()?).filter(|(b, _)| !b.is_empty())?;
        self.data = rest;
        Some(if self.item == ValueType::F32 { f32::from_slice(bytes) } else { f64::from_slice(bytes) as f32 })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.data.len() / self.item.bytes().unwrap_or(1);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Floats<'_> {}
impl FusedIterator for Floats<'_> {}
