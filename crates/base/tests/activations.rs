//! The activation quantizer against its definition: `d = max|x| / 127`, `q = round_ties_even(x / d)`, `sum =
//! d·Σq`.

use whit_base::quant::{ACT_GROUP, WIDE_ACT_GROUP, quantize_activations};

fn quantize(x: &[f32]) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
    let n_groups = x.len() / ACT_GROUP;
    let (mut q, mut d, mut sum) = (vec![99; x.len()], vec![9.0; n_groups], vec![9.0; n_groups]);
    quantize_activations(x, ACT_GROUP, &mut q, &mut d, &mut sum);
    (q, d, sum)
}

#[test]
fn a_wide_group_shares_one_scale() {
    let all: Vec<f32> = (0..256).map(|i| (i as f32 * 0.7).sin() * (1.0 + i as f32)).collect();
    let (mut q, mut d, mut sum) = (vec![99; 256], vec![9.0; 8], vec![9.0; 8]);
    quantize_activations(&all, WIDE_ACT_GROUP, &mut q, &mut d, &mut sum);
    for (index, x) in all.chunks(ACT_GROUP).enumerate() {
        let group = index / 4;
        let peak = all[128 * group..][..128].iter().fold(0.0_f32, |peak, x| peak.max(x.abs()));
        assert_eq!(d[index], peak / 127.0, "scale {index}");
        for (i, x) in x.iter().enumerate() {
            let q = f32::from(q[32 * index + i]);
            assert!((x - q * d[index]).abs() <= 0.500_01 * d[index], "value {i} of {index}");
        }
        let total: i32 = q[32 * index..][..32].iter().map(|q| i32::from(*q)).sum();
        assert_eq!(sum[index], d[index] * total as f32, "sum {index}");
    }
}

/// A group whose first values are `head`, the rest zero.
fn group(head: &[f32]) -> Vec<f32> {
    let mut x = vec![0.0; ACT_GROUP];
    x[..head.len()].copy_from_slice(head);
    x
}

#[test]
fn values_of_one_group() {
    #[rustfmt::skip]
    let table: &[(&[f32], &[i8], f32, f32)] = &[
        (&[127.0, -127.0, 1.0], &[127, -127, 1], 1.0, 1.0),
        (&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5], &[127, 0, 2, 2, 0, -2], 1.0, 129.0), // ties go to even
        (&[-254.0, 3.0], &[-127, 2], 2.0, -250.0),
        (&[63.5, 0.75], &[127, 2], 0.5, 64.5), // 1.5 ties up to 2
        (&[], &[], 0.0, 0.0),
        (&[-0.0, 1e-42, -1e-40], &[0, 0, 0], 0.0, 0.0), // d would be subnormal
    ];
    for (x, q, d, sum) in table {
        let (ours_q, ours_d, ours_sum) = quantize(&group(x));
        assert_eq!(&ours_q[..q.len()], *q, "q of {x:?}");
        assert!(ours_q[q.len()..].iter().all(|q| *q == 0), "padding of {x:?}");
        assert_eq!((ours_d[0], ours_sum[0]), (*d, *sum), "d and sum of {x:?}");
        assert!(ours_d[0].is_sign_positive(), "d of {x:?}");
    }
}

#[test]
fn a_broken_value_poisons_its_group_alone() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [32, 40, 63] {
            let mut x = vec![1.0; 96];
            x[at] = value;
            let (q, d, sum) = quantize(&x);
            assert!(d[1].is_nan() && sum[1].is_nan(), "{value} at {at}: d {}, sum {}", d[1], sum[1]);
            assert!(q[32..64].iter().all(|q| *q == 0), "{value} at {at}");
            assert!(q[..32].iter().chain(&q[64..]).all(|q| *q == 127), "{value} at {at}");
            assert_eq!((d[0], d[2]), (1.0 / 127.0, 1.0 / 127.0), "{value} at {at}");
        }
    }
}

#[test]
fn error_is_at_most_half_a_step_at_every_magnitude() {
    for exponent in -110..127 {
        let x: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin() * 2f32.powi(exponent)).collect();
        let (q, d, sum) = quantize(&x);
        for (g, (x, q)) in x.chunks(ACT_GROUP).zip(q.chunks(ACT_GROUP)).enumerate() {
            let half = 0.500_01 * d[g];
            assert!(x.iter().zip(q).all(|(x, q)| (x - f32::from(*q) * d[g]).abs() <= half), "2^{exponent}");
            assert!(q.contains(&127) || q.contains(&-127), "2^{exponent}");
            assert_eq!(sum[g], d[g] * q.iter().map(|q| i32::from(*q)).sum::<i32>() as f32, "2^{exponent}");
        }
    }
}
