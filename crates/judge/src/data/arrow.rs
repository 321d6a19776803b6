//! Rows of an Arrow IPC stream, as JSON: what Hugging Face's `datasets` writes, and no more of Arrow than that takes. Texts,
//! numbers, booleans, lists and structs; no dictionaries, no compression, no dates.
//!
//! Format: <https://arrow.apache.org/docs/format/Columnar.html> and the flatbuffers schemas `Message.fbs`, `Schema.fbs`. The
//! bytes are a stranger's: every offset is checked, and nothing is allocated that the file could not hold.

use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, String>;

/// Lists and structs inside each other.
const MAX_DEPTH: usize = 16;
/// Columns, and what lists and structs have inside, together.
const MAX_FIELDS: usize = 4096;
const CONTINUATION: u32 = u32::MAX;

/// All rows of a stream.
pub(super) fn rows(bytes: &[u8]) -> Result<Vec<Value>> {
    let mut at = 0usize;
    let mut fields: Option<Vec<Field>> = None;
    let mut rows = Vec::new();
    while at + 4 <= bytes.len() {
        let mut n_metadata = u32_at(bytes, at)?;
        at += 4;
        if n_metadata == CONTINUATION {
            n_metadata = u32_at(bytes, at)?;
            at += 4;
        }
        if n_metadata == 0 {
            break;
        }
        let metadata = slice(bytes, at, n_metadata as usize)?;
        at += n_metadata as usize;
        let message = Table::root(metadata)?;
        let n_body = usize::try_from(message.i64(3)?).map_err(|_| "a message has a negative length")?;
        let body = slice(bytes, at, n_body)?;
        at += n_body;
        let Some(header) = message.table(2)? else { return Err("a message has no header".to_owned()) };
        match (message.u8(1)?, &fields) {
            (1, None) => fields = Some(schema(&header)?),
            (3, Some(fields)) => batch(&header, body, fields, &mut rows)?,
            (1, Some(_)) => return Err("it has two schemas".to_owned()),
            (3, None) => return Err("rows come before the schema".to_owned()),
            (kind, _) => return Err(format!("it has a message of kind {kind}, which is not read here")),
        }
    }
    if fields.is_none() {
        return Err("it is no Arrow stream".to_owned());
    }
    Ok(rows)
}

fn slice(bytes: &[u8], at: usize, n: usize) -> Result<&[u8]> {
    let end = at.checked_add(n).filter(|&end| end <= bytes.len());
    end.map(|end| &bytes[at..end]).ok_or_else(|| "it ends too early".to_owned())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let slice = slice(bytes, at, N)?;
    <[u8; N]>::try_from(slice).map_err(|_| "it ends too early".to_owned())
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

/// A table of a flatbuffer.
#[derive(Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    vtable: usize,
}

impl<'a> Table<'a> {
    fn root(bytes: &'a [u8]) -> Result<Table<'a>> {
        Table::at(bytes, u32_at(bytes, 0)? as usize)
    }

    fn at(bytes: &'a [u8], at: usize) -> Result<Table<'a>> {
        let back = i64::from(i32::from_le_bytes(array(bytes, at)?));
        let vtable = usize::try_from(at as i64 - back).map_err(|_| "a table lies outside")?;
        Ok(Table { bytes, at, vtable })
    }

    /// Where a field stands, if it is set.
    fn field(&self, index: usize) -> Result<Option<usize>> {
        let n_bytes = usize::from(u16::from_le_bytes(array(self.bytes, self.vtable)?));
        let entry = 4 + 2 * index;
        if entry + 2 > n_bytes {
            return Ok(None);
        }
        let offset = usize::from(u16::from_le_bytes(array(self.bytes, self.vtable + entry)?));
        Ok((offset > 0).then_some(self.at + offset))
    }

    fn u8(&self, index: usize) -> Result<u8> {
        Ok(self.field(index)?.map_or(Ok([0]), |at| array(self.bytes, at))?[0])
    }

    fn i16(&self, index: usize) -> Result<i16> {
        self.field(index)?.map_or(Ok(0), |at| array(self.bytes, at).map(i16::from_le_bytes))
    }

    fn i32(&self, index: usize) -> Result<i32> {
        self.field(index)?.map_or(Ok(0), |at| array(self.bytes, at).map(i32::from_le_bytes))
    }

    fn i64(&self, index: usize) -> Result<i64> {
        self.field(index)?.map_or(Ok(0), |at| array(self.bytes, at).map(i64::from_le_bytes))
    }

    /// Where what a field refers to stands.
    fn target(&self, index: usize) -> Result<Option<usize>> {
        match self.field(index)? {
            Some(at) => Ok(Some(at + u32_at(self.bytes, at)? as usize)),
            None => Ok(None),
        }
    }

    fn table(&self, index: usize) -> Result<Option<Table<'a>>> {
        self.target(index)?.map(|at| Table::at(self.bytes, at)).transpose()
    }

    /// The start and the number of entries of a vector whose entries have `width` bytes.
    fn vector(&self, index: usize, width: usize) -> Result<(usize, usize)> {
        let Some(at) = self.target(index)? else { return Ok((0, 0)) };
        let n = u32_at(self.bytes, at)? as usize;
        slice(self.bytes, at + 4, n.saturating_mul(width))?;
        Ok((at + 4, n))
    }

    fn text(&self, index: usize) -> Result<String> {
        let (at, n) = self.vector(index, 1)?;
        Ok(String::from_utf8_lossy(&self.bytes[at..at + n]).into_owned())
    }

    fn tables(&self, index: usize) -> Result<Vec<Table<'a>>> {
        let (start, n) = self.vector(index, 4)?;
        let places = (0..n).map(|entry| start + 4 * entry);
        places.map(|at| Table::at(self.bytes, at + u32_at(self.bytes, at)? as usize)).collect()
    }
}

/// A column, or what a list or struct has inside.
struct Field {
    name: String,
    kind: Kind,
    children: Vec<Field>,
}

#[derive(Clone, Copy)]
enum Kind {
    Null,
    Bool,
    Int {
        bytes: usize,
        signed: bool,
    },
    Float {
        bytes: usize,
    },
    /// Bytes of an offset.
    Text(usize),
    List(usize),
    Struct,
}

fn schema(header: &Table<'_>) -> Result<Vec<Field>> {
    if header.i16(0)? != 0 {
        return Err("its numbers are big-endian".to_owned());
    }
    let mut left = MAX_FIELDS;
    header.tables(1)?.iter().map(|field| read_field(field, 0, &mut left)).collect()
}

/// `left` fields may follow.
fn read_field(field: &Table<'_>, depth: usize, left: &mut usize) -> Result<Field> {
    if depth > MAX_DEPTH {
        return Err("its columns are nested too deep".to_owned());
    }
    *left = left.checked_sub(1).ok_or("it has too many columns")?;
    let name = field.text(0)?;
    if field.table(4)?.is_some() {
        return Err(format!("column `{name}` is kept as a dictionary, which is not read here"));
    }
    let kind = field.table(3)?;
    let kind = match (field.u8(2)?, kind) {
        (1, _) => Kind::Null,
        (2, Some(kind)) => {
            let bits = kind.i32(0)?;
            if ![8, 16, 32, 64].contains(&bits) {
                return Err(format!("column `{name}` has numbers of {bits} bits"));
            }
            Kind::Int { bytes: bits as usize / 8, signed: kind.u8(1)? != 0 }
        }
        (3, Some(kind)) => match kind.i16(0)? {
            1 => Kind::Float { bytes: 4 },
            2 => Kind::Float { bytes: 8 },
            _ => return Err(format!("column `{name}` has floats that are not read here")),
        },
        (5, _) => Kind::Text(4),
        (6, _) => Kind::Bool,
        (12, _) => Kind::List(4),
        (13, _) => Kind::Struct,
        (20, _) => Kind::Text(8),
        (21, _) => Kind::List(8),
        (kind, _) => return Err(format!("column `{name}` is of kind {kind}, which is not read here")),
    };
    let children: Vec<Field> =
        field.tables(5)?.iter().map(|child| read_field(child, depth + 1, left)).collect::<Result<_>>()?;
    if matches!(kind, Kind::List(_)) && children.len() != 1 {
        return Err(format!("column `{name}` is a list of nothing"));
    }
    Ok(Field { name, kind, children })
}

/// What is left to read of a batch: nodes and buffers, in the order of the columns.
struct Reader<'a> {
    header: Table<'a>,
    body: &'a [u8],
    nodes: std::ops::Range<usize>,
    buffers: std::ops::Range<usize>,
    /// Bytes of the body that no buffer has had yet. Buffers that lie upon each other would make much out of little.
    left: usize,
}

impl<'a> Reader<'a> {
    fn node(&mut self) -> Result<usize> {
        let at = self.nodes.next().ok_or("a batch has too few columns")?;
        let (start, _) = self.header.vector(1, 16)?;
        let n = i64::from_le_bytes(array(self.header.bytes, start + 16 * at)?);
        usize::try_from(n).map_err(|_| "a column has a negative length".to_owned())
    }

    fn buffer(&mut self) -> Result<&'a [u8]> {
        let at = self.buffers.next().ok_or("a batch has too few buffers")?;
        let (start, _) = self.header.vector(2, 16)?;
        let number = |at| array(self.header.bytes, at).map(i64::from_le_bytes);
        let place = |n: i64| usize::try_from(n).map_err(|_| "a buffer lies outside".to_owned());
        let n = place(number(start + 16 * at + 8)?)?;
        self.take(n)?;
        slice(self.body, place(number(start + 16 * at)?)?, n)
    }

    fn take(&mut self, n: usize) -> Result<()> {
        self.left = self.left.checked_sub(n).ok_or("the buffers of a batch are larger than it")?;
        Ok(())
    }
}

fn batch(header: &Table<'_>, body: &[u8], fields: &[Field], rows: &mut Vec<Value>) -> Result<()> {
    if header.table(3)?.is_some() {
        return Err("it is compressed, which is not read here".to_owned());
    }
    let n_rows = usize::try_from(header.i64(0)?).map_err(|_| "a batch has a negative length")?;
    let (nodes, buffers) = (0..header.vector(1, 16)?.1, 0..header.vector(2, 16)?.1);
    let mut reader = Reader { header: *header, body, nodes, buffers, left: body.len() };
    let mut columns = Vec::new();
    for field in fields {
        let values = column(field, &mut reader)?;
        if values.len() != n_rows {
            return Err(format!("column `{}` has {} rows of {n_rows}", field.name, values.len()));
        }
        columns.push((field.name.as_str(), values.into_iter()));
    }
    if columns.is_empty() {
        return Ok(());
    }
    for _ in 0..n_rows {
        let cells =
            columns.iter_mut().map(|(name, values)| ((*name).to_owned(), values.next().unwrap_or_default()));
        rows.push(Value::Object(cells.collect()));
    }
    Ok(())
}

/// The values of a column, or of what is inside of one.
fn column(field: &Field, reader: &mut Reader<'_>) -> Result<Vec<Value>> {
    let n = reader.node()?;
    if matches!(field.kind, Kind::Null) {
        // Values that take no bytes could be any number; so they count as one each.
        reader.take(n)?;
        return Ok(vec![Value::Null; n]);
    }
    let present = reader.buffer()?;
    let bit =
        |bits: &[u8], index: usize| bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
    let short = || format!("column `{}` is cut off", field.name);
    let mut values: Vec<Value> = match field.kind {
        Kind::Null => Vec::new(),
        Kind::Bool => {
            let bits = reader.buffer()?;
            if bits.len() < n.div_ceil(8) {
                return Err(short());
            }
            (0..n).map(|index| Value::Bool(bit(bits, index))).collect()
        }
        Kind::Int { bytes, signed } => {
            let data = reader.buffer()?;
            let data = data.get(..n.saturating_mul(bytes)).ok_or_else(short)?;
            data.chunks_exact(bytes).map(|cell| integer(cell, signed)).collect()
        }
        Kind::Float { bytes } => {
            let data = reader.buffer()?;
            let data = data.get(..n.saturating_mul(bytes)).ok_or_else(short)?;
            data.chunks_exact(bytes).map(float).collect()
        }
        Kind::Text(width) => {
            let offsets = offsets(reader.buffer()?, n, width).ok_or_else(short)?;
            let data = reader.buffer()?;
            let text =
                |pair: &[usize]| data.get(pair[0]..pair[1]).map(|text| String::from_utf8_lossy(text).into());
            offsets.windows(2).map(text).collect::<Option<_>>().ok_or_else(short)?
        }
        Kind::List(width) => {
            let offsets = offsets(reader.buffer()?, n, width).ok_or_else(short)?;
            let items = column(&field.children[0], reader)?;
            let list = |pair: &[usize]| items.get(pair[0]..pair[1]).map(|items| Value::Array(items.to_vec()));
            offsets.windows(2).map(list).collect::<Option<_>>().ok_or_else(short)?
        }
        Kind::Struct => {
            let mut parts = Vec::new();
            for child in &field.children {
                let values = column(child, reader)?;
                if values.len() < n {
                    return Err(short());
                }
                parts.push((child.name.as_str(), values.into_iter()));
            }
            if parts.is_empty() && n > 0 {
                return Err(short());
            }
            let mut object = || -> Map<String, Value> {
                parts
                    .iter_mut()
                    .map(|(name, values)| ((*name).to_owned(), values.next().unwrap_or_default()))
                    .collect()
            };
            (0..n).map(|_| Value::Object(object())).collect()
        }
    };
    if !present.is_empty() {
        for (_, value) in values.iter_mut().enumerate().filter(|(index, _)| !bit(present, *index)) {
            *value = Value::Null;
        }
    }
    Ok(values)
}

fn integer(cell: &[u8], signed: bool) -> Value {
    let mut wide = [0u8; 8];
    wide[..cell.len()].copy_from_slice(cell);
    let unsigned = u64::from_le_bytes(wide);
    if !signed {
        return unsigned.into();
    }
    let unused = 64 - 8 * cell.len() as u32;
    ((unsigned << unused) as i64 >> unused).into()
}

fn float(cell: &[u8]) -> Value {
    match *cell {
        [a, b, c, d] => f64::from(f32::from_le_bytes([a, b, c, d])).into(),
        [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]).into(),
        _ => Value::Null,
    }
}

/// `n + 1` offsets in ascending order. An empty column may have none.
fn offsets(data: &[u8], n: usize, width: usize) -> Option<Vec<usize>> {
    if n == 0 && data.is_empty() {
        return Some(vec![0]);
    }
    let data = data.get(..n.checked_add(1)?.checked_mul(width)?)?;
    let offsets: Option<Vec<usize>> = data
        .chunks_exact(width)
        .map(|cell| match *cell {
            [a, b, c, d] => usize::try_from(i32::from_le_bytes([a, b, c, d])).ok(),
            [a, b, c, d, e, f, g, h] => usize::try_from(i64::from_le_bytes([a, b, c, d, e, f, g, h])).ok(),
            _ => None,
        })
        .collect();
    offsets.filter(|offsets| offsets.is_sorted())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by pyarrow (tests/golden/make_arrow.py).
    const STREAM: &[u8] = include_bytes!("../../tests/golden/rows.arrow");

    #[test]
    fn every_kind_of_column() {
        let expected: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/golden/rows.json")).expect("JSON");
        assert_eq!(rows(STREAM).expect("rows"), expected);
    }

    /// Whatever is cut off or changed: an error or other rows, never a panic or a great allocation.
    #[test]
    fn damage() {
        for n in 0..STREAM.len() {
            let _ = rows(&STREAM[..n]);
        }
        let mut bytes = STREAM.to_vec();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let before = std::mem::replace(&mut bytes[at], value);
                let _ = rows(&bytes);
                bytes[at] = before;
            }
        }
        for bytes in [&b""[..], b"ARROW1\0\0", b"\xff\xff\xff\xff\0\0\0\0", b"PAR1"] {
            assert!(rows(bytes).is_err(), "{bytes:?}");
        }
    }
}
