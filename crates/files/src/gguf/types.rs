//! How GGUF numbers the storage formats of tensors. Numbers and names follow `enum ggml_type` (ggml, `ggml.h`).

use whit_base::DType;

/// The formats that are computed with.
const SUPPORTED: [(u32, DType); 26] = [
    (0, DType::F32),
    (1, DType::F16),
    (2, DType::Q4_0),
    (3, DType::Q4_1),
    (6, DType::Q5_0),
    (7, DType::Q5_1),
    (8, DType::Q8_0),
    (10, DType::Q2_K),
    (11, DType::Q3_K),
    (12, DType::Q4_K),
    (13, DType::Q5_K),
    (14, DType::Q6_K),
    (16, DType::IQ2_XXS),
    (17, DType::IQ2_XS),
    (18, DType::IQ3_XXS),
    (19, DType::IQ1_S),
    (20, DType::IQ4_NL),
    (21, DType::IQ3_S),
    (22, DType::IQ2_S),
    (23, DType::IQ4_XS),
    (29, DType::IQ1_M),
    (30, DType::BF16),
    (34, DType::TQ1_0),
    (35, DType::TQ2_0),
    (39, DType::MXFP4),
    (40, DType::NVFP4),
];

/// Formats that are known by name only, so that an error can say which one a file has.
const NAMED: [(u32, &str); 17] = [
    (4, "Q4_2, retired"),
    (5, "Q4_3, retired"),
    (9, "Q8_1"),
    (15, "Q8_K"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (31, "Q4_0_4_4, retired"),
    (32, "Q4_0_4_8, retired"),
    (33, "Q4_0_8_8, retired"),
    (36, "IQ4_NL_4_4, retired"),
    (37, "IQ4_NL_4_8, retired"),
    (38, "IQ4_NL_8_8, retired"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

/// The format with this number, or the name to give in the error.
pub(super) fn from_id(id: u32) -> Result<DType, &'static str> {
    if let Some(&(_, dtype)) = SUPPORTED.iter().find(|(known, _)| *known == id) {
        return Ok(dtype);
    }
    Err(NAMED.iter().find(|(known, _)| *known == id).map_or("unknown", |(_, name)| name))
}

/// The number of a format.
pub(super) const fn id(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q5_0 => 6,
        DType::Q5_1 => 7,
        DType::Q8_0 => 8,
        DType::Q2_K => 10,
        DType::Q3_K => 11,
        DType::Q4_K => 12,
        DType::Q5_K => 13,
        DType::Q6_K => 14,
        DType::IQ2_XXS => 16,
        DType::IQ2_XS => 17,
        DType::IQ3_XXS => 18,
        DType::IQ1_S => 19,
        DType::IQ4_NL => 20,
        DType::IQ3_S => 21,
        DType::IQ2_S => 22,
        DType::IQ4_XS => 23,
        DType::IQ1_M => 29,
        DType::BF16 => 30,
        DType::TQ1_0 => 34,
        DType::TQ2_0 => 35,
        DType::MXFP4 => 39,
        DType::NVFP4 => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_formats_agree_both_ways() {
        for dtype in DType::ALL {
            assert_eq!(from_id(id(dtype)), Ok(dtype));
        }
        for (id, name) in NAMED {
            assert_eq!(from_id(id), Err(name));
        }
        assert_eq!(from_id(43), Err("unknown"));
        assert_eq!(from_id(u32::MAX), Err("unknown"));
    }
}
