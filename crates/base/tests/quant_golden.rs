//! Bit-for-bit agreement with the `gguf` Python package, on the blocks of `golden/quant.bin` (made by
//! `make_quant_golden.py`): decoding of every format, and encoding where the reference's
//! encoder is fixed, or the values are numbers of the format already.
#![expect(clippy::unwrap_used, reason = "a malformed golden file should stop the test")]

use std::collections::BTreeSet;
use whit_base::{DType, quant};

struct Record {
    encode: bool,
    dtype: DType,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

fn records() -> Vec<Record> {
    let mut rest: &[u8] = include_bytes!("golden/quant.bin");
    let mut take = |n: usize| rest.split_off(..n).unwrap();
    let mut out = Vec::new();
    for _ in 0..36 {
        let encode = take(1)[0] == 1;
        let name_len = usize::from(take(1)[0]);
        let name = std::str::from_utf8(take(name_len)).unwrap();
        let dtype = *DType::ALL.iter().find(|dtype| dtype.name() == name).unwrap();
        let n_bytes = u32::from_le_bytes(take(4).try_into().unwrap()) as usize;
        let n_values = u32::from_le_bytes(take(4).try_into().unwrap()) as usize;
        let bytes = take(n_bytes).to_vec();
        let values = take(4 * n_values).as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v)).collect();
        out.push(Record { encode, dtype, bytes, values });
    }
    assert!(rest.is_empty(), "the golden file holds more records than are read");
    out
}

#[test]
fn decodes_every_format_as_the_reference_does() {
    let mut seen = BTreeSet::new();
    for Record { dtype, bytes, values, .. } in records().into_iter().filter(|record| !record.encode) {
        let mut ours = vec![f32::NAN; values.len()];
        quant::decode_row(dtype, &bytes, &mut ours);
        for (i, (ours, reference)) in ours.iter().zip(&values).enumerate() {
            assert_eq!(ours.to_bits(), reference.to_bits(), "{dtype} value {i}: {ours} for {reference}");
        }
        seen.insert(dtype);
    }
    assert_eq!(seen, DType::ALL.into_iter().collect());
}

#[test]
fn encodes_simple_formats_as_the_reference_does() {
    let mut n = 0;
    for Record { dtype, bytes, values, .. } in records().into_iter().filter(|record| record.encode) {
        let mut ours = vec![0xA5; bytes.len()];
        quant::encode_row(dtype, &values, None, &mut ours);
        let blocks = ours.chunks(dtype.block_bytes()).zip(bytes.chunks(dtype.block_bytes()));
        for (i, (ours, reference)) in blocks.enumerate() {
            assert_eq!(ours, reference, "{dtype} block {i}");
        }
        n += 1;
    }
    assert_eq!(n, 10);
}
