//! Numeric loops shared by sampling and the CPU kernels.

/// x ← eˣ.
pub fn exp(values: &mut [f32]) {
    for value in values {
        *value = value.exp();
    }
}

/// The largest value; NaN if any is NaN, −∞ if there is none.
pub fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut finite = true;
    for some in values.chunks(16) {
        for (lane, &value) in lanes.iter_mut().zip(some) {
            *lane = if value > *lane { value } else { *lane };
            finite &= !value.is_nan();
        }
    }
    if finite { lanes.into_iter().fold(f32::NEG_INFINITY, f32::max) } else { f32::NAN }
}
