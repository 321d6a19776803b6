//! The pieces that most decoder blocks are made of, each named after its tensor: `blk.<layer>.<part>`.

use whit_base::{BufferId, NormKind, PlanBuilder, WeightId};

use crate::ModelError;
use crate::tensors::Tensors;

/// One layer under construction.
pub(crate) struct Block<'b, 'a> {
    pub(crate) plan: &'b mut PlanBuilder,
    pub(crate) tensors: &'b mut Tensors<'a>,
    pub(crate) layer: usize,
}

impl Block<'_, '_> {
    pub(crate) fn name(&self, part: &str) -> String {
        format!("blk.{}.{part}", self.layer)
    }

    fn vector(&mut self, part: &str) -> Result<WeightId, ModelError> {
        let name = self.name(&format!("{part}.weight"));
        self.tensors.vector(self.plan, &name)
    }

    /// RMS norm over the width.
    pub(crate) fn rms_norm(&mut self, part: &str, x: BufferId, eps: f32) -> Result<BufferId, ModelError> {
        let weight = self.vector(part)?;
        Ok(self.plan.rms_norm(&self.name(part), x, weight, eps)?)
    }

    /// RMS norm over each head.
    pub(crate) fn head_norm(
        &mut self,
        part: &str,
        x: BufferId,
        head_dim: usize,
        eps: f32,
    ) -> Result<BufferId, ModelError> {
        let weight = self.vector(part)?;
        let kind = NormKind::Rms { eps };
        Ok(self.plan.norm(&self.name(part), x, kind, Some(weight), None, Some(head_dim))?)
    }

    /// A projection, with its bias where the file has one.
    pub(crate) fn linear(&mut self, part: &str, x: BufferId) -> Result<BufferId, ModelError> {
        let name = self.name(part);
        let weight = self.tensors.matrix(self.plan, &format!("{name}.weight"))?;
        let bias = self.tensors.opt_vector(self.plan, &format!("{name}.bias"))?;
        Ok(self.plan.linear(&name, x, weight, bias)?)
    }
}
