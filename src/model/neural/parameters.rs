use std::path::Path;

use anyhow::Result;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::durable;
use crate::error::UserError;
use crate::model::Parameter;
use crate::random;

/// How the values of a tensor begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Begin {
    Zeros,
    Ones,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform between minus this and this.
    Uniform(f64),
}

/// Names, shapes and beginnings of a network's tensors, in order.
#[derive(Clone, Debug, Default)]
pub struct Layout(Vec<(String, Vec<usize>, Begin)>);

impl Layout {
    /// One tensor of one or two dimensions. Matrices take weight decay, vectors do not.
    pub fn tensor(mut self, name: &str, shape: &[usize], begin: Begin) -> Self {
        self.0.push((name.to_owned(), shape.to_vec(), begin));
        self
    }

    /// `NAME.weight` `[inputs, outputs]` and `NAME.bias`, uniform within 1 / √inputs.
    pub fn linear(self, name: &str, inputs: usize, outputs: usize) -> Self {
        let bound = Begin::Uniform(1.0 / (inputs as f64).sqrt());
        self.tensor(&format!("{name}.weight"), &[inputs, outputs], bound).tensor(
            &format!("{name}.bias"),
            &[outputs],
            bound,
        )
    }

    /// One row of `width` values for each of `rows` things.
    pub fn embedding(self, name: &str, rows: usize, width: usize) -> Self {
        self.tensor(name, &[rows, width], Begin::Normal(1.0 / (width as f64).sqrt()))
    }

    /// `NAME.gain` and `NAME.shift` of a layer normalisation.
    pub fn norm(self, name: &str, width: usize) -> Self {
        self.tensor(&format!("{name}.gain"), &[width], Begin::Ones).tensor(
            &format!("{name}.shift"),
            &[width],
            Begin::Zeros,
        )
    }
}

/// The values of a network's tensors, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters(pub(crate) Vec<Parameter>);

impl Parameters {
    /// Each tensor has its own stream of `seed`.
    pub fn initial(layout: &Layout, seed: u64) -> Self {
        use rand_distr::{Distribution, Normal, Uniform};
        let tensors = layout.0.iter().enumerate().map(|(index, (name, shape, begin))| {
            let size = shape.iter().product();
            let mut rng = random::stream(seed, "initial weights", &[index as u64]);
            let values: Vec<f32> = match *begin {
                Begin::Zeros => vec![0.0; size],
                Begin::Ones => vec![1.0; size],
                Begin::Normal(deviation) => match Normal::new(0.0, deviation) {
                    Ok(normal) => (0..size).map(|_| normal.sample(&mut rng) as f32).collect(),
                    Err(_) => vec![0.0; size],
                },
                Begin::Uniform(bound) => match Uniform::new_inclusive(-bound, bound) {
                    Ok(uniform) => (0..size).map(|_| uniform.sample(&mut rng) as f32).collect(),
                    Err(_) => vec![0.0; size],
                },
            };
            parameter(name, shape, values)
        });
        Self(tensors.collect())
    }

    /// Number of learnt values.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|parameter| parameter.values.len() as u64).sum()
    }

    /// The values of one tensor, row-major.
    pub fn get(&self, name: &str) -> &[f32] {
        &self.parameter(name).values
    }

    /// `[rows, columns]` of a matrix, `[length]` of a vector.
    pub fn shape(&self, name: &str) -> &[usize] {
        &self.parameter(name).shape
    }

    fn parameter(&self, name: &str) -> &Parameter {
        // A name that is not in the layout is a slip in the generator's own code.
        self.0.iter().find(|parameter| parameter.name == name).expect("a tensor of the layout")
    }

    /// Writes all tensors to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes: Vec<Vec<u8>> = self
            .0
            .iter()
            .map(|parameter| parameter.values.iter().flat_map(|v| v.to_le_bytes()).collect())
            .collect();
        let views = self
            .0
            .iter()
            .zip(&bytes)
            .map(|(parameter, bytes)| {
                let view = TensorView::new(Dtype::F32, parameter.shape.clone(), bytes)?;
                Ok((parameter.name.as_str(), view))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(durable::write(path, &safetensors::serialize(views, None)?)?)
    }

    /// Reads the tensors of `layout` back.
    ///
    /// # Errors
    /// A file that is missing, damaged, or of another layout.
    pub fn load(path: &Path, layout: &Layout) -> Result<Self> {
        let bytes =
            std::fs::read(path).map_err(|error| UserError::io(path, "cannot be read", error))?;
        let wrong = |place: &str, message: String| UserError::input(path, place, message);
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| wrong("safetensors", error.to_string()))?;
        let mut parameters = Vec::new();
        for (name, shape, _) in &layout.0 {
            let place = format!("tensor {name}");
            let tensor = file.tensor(name).map_err(|error| wrong(&place, error.to_string()))?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
                let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
                return Err(wrong(&place, format!("is {found}, expected F32 {shape:?}")).into());
            }
            let bytes = tensor.data().chunks_exact(4);
            let values = bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            parameters.push(parameter(name, shape, values));
        }
        Ok(Self(parameters))
    }
}

fn parameter(name: &str, shape: &[usize], values: Vec<f32>) -> Parameter {
    Parameter { name: name.to_owned(), shape: shape.to_vec(), values, decay: shape.len() == 2 }
}
