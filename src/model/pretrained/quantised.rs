//! Number formats of weight files, decoded to f32.
//!
//! The block formats are those of ggml: 32 values share a scale (and a minimum), in little-endian
//! half precision. Source: `ggml-common.h` and `ggml-quants.c` of ggml.

use half::{bf16, f16};

/// Values of a quantised block.
const BLOCK: usize = 32;

/// How the values of a tensor are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    F32,
    F16,
    Bf16,
    /// Scale and 32 signed bytes: `scale · q`.
    Q8_0,
    /// Scale and 32 nibbles: `scale · (q − 8)`.
    Q4_0,
    /// Scale, minimum and 32 nibbles: `scale · q + minimum`.
    Q4_1,
}

/// ggml's other formats, for messages. Numbers that are not in use any more have no name.
const UNSUPPORTED: [(u32, &str); 26] = [
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

impl Format {
    /// The format with ggml's number `code`.
    ///
    /// # Errors
    /// A message that names the format and the supported ones.
    pub fn of_ggml(code: u32) -> Result<Self, String> {
        Ok(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            30 => Self::Bf16,
            _ => {
                let known = UNSUPPORTED.iter().find(|(known, _)| *known == code);
                let name = known.map_or_else(String::new, |(_, name)| format!("{name}, "));
                return Err(format!(
                    "has format {name}number {code} of ggml, which is not supported: use a file in \
                     Q8_0, Q4_0, Q4_1, F32, F16 or BF16"
                ));
            }
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
        }
    }

    /// Values and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (BLOCK, 2 + BLOCK),
            Self::Q4_0 => (BLOCK, 2 + BLOCK / 2),
            Self::Q4_1 => (BLOCK, 4 + BLOCK / 2),
        }
    }

    /// Bytes of `values` values; nothing if they do not fill whole blocks or overflow.
    pub fn bytes(self, values: usize) -> Option<usize> {
        let (per_block, bytes) = self.block();
        if !values.is_multiple_of(per_block) {
            return None;
        }
        (values / per_block).checked_mul(bytes)
    }

    /// The values of `bytes`, whole blocks.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let half = |b: &[u8]| f16::from_le_bytes([b[0], b[1]]).to_f32();
        let (values, size) = self.block();
        let mut out = Vec::with_capacity(bytes.len() / size * values);
        let blocks = bytes.chunks_exact(size);
        match self {
            Self::F32 => out.extend(blocks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
            Self::F16 => out.extend(blocks.map(half)),
            Self::Bf16 => out.extend(blocks.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
            Self::Q8_0 => blocks.for_each(|b| {
                let scale = half(b);
                out.extend(b[2..].iter().map(|q| scale * f32::from(q.cast_signed())));
            }),
            Self::Q4_0 => blocks.for_each(|b| {
                let scale = half(b);
                out.extend(nibbles(&b[2..]).map(|q| scale * (q - 8.0)));
            }),
            Self::Q4_1 => blocks.for_each(|b| {
                let (scale, minimum) = (half(b), half(&b[2..]));
                out.extend(nibbles(&b[4..]).map(|q| scale * q + minimum));
            }),
        }
        out
    }
}

/// The low halves of all bytes, then the high halves: so ggml orders them.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = f32> {
    let low = bytes.iter().map(|byte| f32::from(byte & 15));
    low.chain(bytes.iter().map(|byte| f32::from(byte >> 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1.5 and −0.25 in half precision.
    const SCALE: [u8; 2] = [0x00, 0x3e];
    const MINIMUM: [u8; 2] = [0x00, 0xb4];

    #[test]
    fn plain_numbers_by_hand() {
        assert_eq!(Format::F32.decode(&(-2.5f32).to_le_bytes()), [-2.5]);
        assert_eq!(Format::F16.decode(&[0x00, 0x3e, 0x00, 0xb4]), [1.5, -0.25]);
        // Half precision has subnormals: the smallest is 2⁻²⁴.
        assert_eq!(Format::F16.decode(&[0x01, 0x00]), [2f32.powi(-24)]);
        // bf16 is the upper half of an f32: 0x3fc0 0000 is 1.5.
        assert_eq!(Format::Bf16.decode(&[0xc0, 0x3f]), [1.5]);
    }

    #[test]
    fn blocks_by_hand() {
        let mut block = SCALE.to_vec();
        block.extend((0..32).map(|i: i16| (8 * i - 128) as i8 as u8));
        let expected: Vec<f32> = (0..32).map(|i| 1.5 * (8.0 * i as f32 - 128.0)).collect();
        assert_eq!(Format::Q8_0.decode(&block), expected);

        // Byte i holds value i below and value i + 16 above.
        let packed: Vec<u8> = (0..16u8).map(|i| i | ((15 - i) << 4)).collect();
        let stored = |i: usize| if i < 16 { i as f32 } else { 31.0 - i as f32 };
        let block = [&SCALE[..], &packed].concat();
        let expected: Vec<f32> = (0..32).map(|i| 1.5 * (stored(i) - 8.0)).collect();
        assert_eq!(Format::Q4_0.decode(&block), expected);
        let block = [&SCALE[..], &MINIMUM, &packed].concat();
        let expected: Vec<f32> = (0..32).map(|i| 1.5 * stored(i) - 0.25).collect();
        assert_eq!(Format::Q4_1.decode(&block), expected);
        assert_eq!(Format::Q4_1.decode(&[block.clone(), block].concat()).len(), 64);
    }

    #[test]
    fn sizes_are_whole_blocks() {
        assert_eq!(Format::Q4_1.bytes(64), Some(40));
        assert_eq!(Format::Q4_0.bytes(64), Some(36));
        assert_eq!(Format::Q8_0.bytes(33), None);
        assert_eq!(Format::F32.bytes(usize::MAX), None);
        for (code, told) in
            [(12, "Q4_K, number 12 "), (39, "MXFP4, number 39 "), (4, "format number 4 ")]
        {
            let message = Format::of_ggml(code).expect_err("not supported");
            assert!(message.contains(told) && message.contains("use a file in Q8_0"), "{message}");
        }
        assert!(Format::of_ggml(u32::MAX).is_err());
    }
}
