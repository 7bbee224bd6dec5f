//! A tokenizer for text that continues other text.

use tokenizers::normalizers::{NormalizerWrapper, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::Tokenizer;

/// `tokenizer` without the space that some tokenizers add before the first word.
pub fn continuation_tokenizer(tokenizer: &Tokenizer) -> Tokenizer {
    let mut continuation = tokenizer.clone();
    let normalizer = tokenizer.get_normalizer().cloned();
    continuation.with_normalizer(normalizer.and_then(without_prepend));
    let pre_tokenizer = tokenizer.get_pre_tokenizer().cloned();
    continuation.with_pre_tokenizer(pre_tokenizer.map(without_first_space));
    continuation
}

fn without_prepend(normalizer: NormalizerWrapper) -> Option<NormalizerWrapper> {
    match normalizer {
        NormalizerWrapper::Prepend(_) => None,
        NormalizerWrapper::Sequence(sequence) => {
            let kept = sequence.as_ref().iter().cloned().filter_map(without_prepend).collect();
            Some(NormalizerWrapper::Sequence(Normalizers::new(kept)))
        }
        other => Some(other),
    }
}

fn without_first_space(pre_tokenizer: PreTokenizerWrapper) -> PreTokenizerWrapper {
    match pre_tokenizer {
        PreTokenizerWrapper::Metaspace(mut metaspace) => {
            metaspace.prepend_scheme = PrependScheme::Never;
            PreTokenizerWrapper::Metaspace(metaspace)
        }
        PreTokenizerWrapper::Sequence(sequence) => {
            let changed = sequence.as_ref().iter().cloned().map(without_first_space).collect();
            PreTokenizerWrapper::Sequence(PreTokenizers::new(changed))
        }
        other => other,
    }
}
