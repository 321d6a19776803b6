//! Our fits against llama.cpp's, on the rows of `golden/quant_fit.bin` (made by `make_quant_fit.py`): for
//! every format that is searched, with and without importance weights, our error is no larger.
#![expect(clippy::unwrap_used, reason = "a malformed golden file should stop the test")]

use whit_base::{DType, quant};

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|v| f32::from_le_bytes(*v)).collect()
}

fn error(dtype: DType, bytes: &[u8], x: &[f32], importance: &[f32]) -> f64 {
    let mut decoded = vec![0.0; x.len()];
    quant::decode_row(dtype, bytes, &mut decoded);
    let terms = x.iter().zip(&decoded).zip(importance);
    terms.map(|((x, y), w)| f64::from(*w) * f64::from(x - y).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn fits_are_no_worse_than_those_of_llama_cpp() {
    let mut rest: &[u8] = include_bytes!("golden/quant_fit.bin");
    let mut take = |n: usize| rest.split_off(..n).unwrap();
    let n = u32::from_le_bytes(take(4).try_into().unwrap()) as usize;
    let x = floats(take(4 * n));
    let importance = floats(take(4 * n));
    let ones = vec![1.0; n];
    for _ in 0..36 {
        let weighted = take(1)[0] == 1;
        let name_len = usize::from(take(1)[0]);
        let name = std::str::from_utf8(take(name_len)).unwrap();
        let dtype = *DType::ALL.iter().find(|dtype| dtype.name() == name).unwrap();
        let n_bytes = u32::from_le_bytes(take(4).try_into().unwrap()) as usize;
        let theirs = take(n_bytes);
        let mut ours = vec![0; n_bytes];
        quant::encode_row(dtype, &x, weighted.then_some(&importance), &mut ours);

        let measure = if weighted { &importance } else { &ones };
        let (ours, theirs) = (error(dtype, &ours, &x, measure), error(dtype, theirs, &x, measure));
        println!("{dtype} weighted {weighted}: {:.4} of llama.cpp's error", ours / theirs);
        assert!(ours <= theirs, "{dtype} weighted {weighted}: {ours} over {theirs}");
    }
    assert!(rest.is_empty(), "the golden file holds more records than are read");
}
