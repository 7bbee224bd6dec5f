//! Why the tensors of a folder differ from those that params.json asks for.

use super::names::PaperTensor;
use crate::config::{Architecture, ColmConfig};
use crate::format::{Projection, TensorId};

/// Why a model of `config` has no tensor `name`.
pub(crate) fn why_not_of_paper(config: &ColmConfig, name: &str) -> &'static str {
    let is_of_head = |part: &str| ["q_norm", "k_norm"].contains(&part);
    match PaperTensor::parse(name) {
        _ if name.ends_with(".bias") => "these conventions have no biases",
        _ if name.split('.').any(is_of_head) => "these conventions have no norms of q and k",
        Some(PaperTensor { id: TensorId::Head, .. }) => "the embeddings are tied",
        Some(PaperTensor { id: TensorId::Weight { layer, .. }, .. })
            if layer >= config.file.num_hidden_layers =>
        {
            "it belongs to a layer after the last of `n_layers`"
        }
        Some(PaperTensor { id: TensorId::Weight { projection, .. }, chain }) => {
            why_no_matrix(config, projection, chain)
        }
        _ => {
            "expected only the tensors of its layers and chains, by the names of these conventions"
        }
    }
}

/// Why the matrix of `projection` is not in the list at `chain`, or not there as one matrix.
fn why_no_matrix(
    config: &ColmConfig,
    projection: Projection,
    chain: Option<usize>,
) -> &'static str {
    let is_kv = matches!(projection, Projection::K | Projection::V);
    match (chain, config.architecture) {
        (Some(_), Architecture::ColmAir) if is_kv => {
            "with `kv_sharing` wk and wv are one matrix over chain 1, not lists"
        }
        (Some(_), _) => "it belongs to a chain after the last of `chains`",
        (None, Architecture::Colm) if is_kv => {
            "only with `kv_sharing` are wk and wv one matrix over chain 1; expected a list, `.mlps.{i}.weight`"
        }
        (None, _) => "a linear layer is a list of one matrix per chain, `.mlps.{i}.weight`",
    }
}

/// What in params.json asks for tensor `name`, if the files suggest that it should say something else. `found` tells
/// which names the files have.
pub(crate) fn why_missing_in_paper(
    config: &ColmConfig,
    name: &str,
    found: impl Fn(&str) -> bool,
) -> Option<&'static str> {
    let PaperTensor { id, .. } = PaperTensor::parse(name)?;
    match (id, config.architecture) {
        (TensorId::Head, _) => {
            Some("the embeddings are not tied; with `tie_word_embeddings` true the head is that of tok_embeddings")
        }
        (TensorId::Weight { projection: Projection::K | Projection::V, .. }, Architecture::Colm)
            if found(&PaperTensor { id, chain: None }.name()) =>
        {
            Some("`kv_sharing` is not true, and these files have one matrix for all chains")
        }
        (TensorId::Weight { projection: Projection::K | Projection::V, .. }, Architecture::ColmAir)
            if found(&PaperTensor { id, chain: Some(1) }.name()) =>
        {
            Some("`kv_sharing` is true, and these files have one matrix per chain")
        }
        _ => None,
    }
}
