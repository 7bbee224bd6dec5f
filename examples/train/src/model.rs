//! The model of docs/spec.md#layers as dense masked matrices, with all chains at all positions.
//!
//! It is slow and simple: the reference for tests of [`ChainModel`](crate::chain_model::ChainModel) and of the engine.

use candle_core::{Device, Result, Tensor, D};
use candle_nn::ops::softmax;
use candle_nn::VarBuilder;
use colm_checkpoint::{ColmConfig, Split};

use crate::parameters::{Axes, Parameter};
use crate::positions::{causal_mask, Rope};

/// CoLM or CoLM-Air with all chains. Chain i of every hidden state depends on chains `1..=i` only, so one
/// [`forward`](Self::forward) pass gives the logits at every k.
pub struct DenseColm {
    config: ColmConfig,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: ChainNorm,
    head: Tensor,
    rope: Rope,
}

impl DenseColm {
    /// Builds the model from `weights`, with names of the dense layout (docs/spec.md#dense-layout); f32, CPU.
    pub fn new(config: &ColmConfig, weights: VarBuilder) -> Result<Self> {
        let file = &config.file;
        let model = weights.pp("model");
        let shape = (file.vocab_size, file.hidden_size);
        let embedding = model.pp("embed_tokens").get(shape, "weight")?;
        let head = if file.tie_word_embeddings {
            embedding.clone()
        } else {
            weights.pp("lm_head").get(shape, "weight")?
        };
        let layers = (0..file.num_hidden_layers)
            .map(|layer| Layer::new(config, model.pp("layers").pp(layer)))
            .collect::<Result<_>>()?;
        let norm = ChainNorm::new(config, model.pp("norm"))?;
        let rope = Rope::new(config)?;
        Ok(Self { config: config.clone(), embedding, layers, norm, head, rope })
    }

    /// The config of the model.
    pub fn config(&self) -> &ColmConfig {
        &self.config
    }

    /// Token ids `[batch, tokens]` (u32) to z of docs/spec.md#layers, `[batch, tokens, hidden]`: the hidden states of
    /// all chains after the final norm. Every sequence starts at position 0.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, length) = tokens.dims2()?;
        let longest = self.config.file.max_position_embeddings;
        if length > longest {
            candle_core::bail!("{length} tokens; max_position_embeddings = {longest}");
        }
        let hidden = self.config.hidden.total();
        let mut x =
            self.embedding.embedding(&tokens.flatten_all()?)?.reshape((batch, length, hidden))?;
        let rope = self.rope.first(length)?;
        let causal = causal_mask(length)?;
        for layer in &self.layers {
            x = layer.forward(&x, &rope, &causal)?;
        }
        self.norm.forward(&x)
    }

    /// The logits at 1, 2, .. `k` chains, each `[.., vocab]`, from hidden states `[.., hidden]` of
    /// [`forward`](Self::forward): a running sum over the chains.
    pub fn logits_up_to(&self, hidden: &Tensor, k: usize) -> Result<Vec<Tensor>> {
        let mut logits: Vec<Tensor> = Vec::with_capacity(k);
        let (width, mut shape) = (hidden.dim(D::Minus1)?, hidden.dims().to_vec());
        let rows = hidden.reshape(((), width))?;
        if let Some(last) = shape.last_mut() {
            *last = self.config.file.vocab_size;
        }
        for i in 0..k {
            let (start, width) = (self.config.hidden.first(i), self.config.hidden.of(i));
            let z = rows.narrow(1, start, width)?.contiguous()?;
            let u = self.head.narrow(1, start, width)?.contiguous()?;
            let term = z.matmul(&u.t()?)?.reshape(shape.as_slice())?;
            logits.push(match logits.last() {
                Some(sum) => (sum + term)?,
                None => term,
            });
        }
        Ok(logits)
    }

    /// The logits at `k` chains, `[.., vocab]`. `k` counts from 1.
    pub fn logits_at(&self, hidden: &Tensor, k: usize) -> Result<Tensor> {
        match self.logits_up_to(hidden, k)?.pop() {
            Some(logits) if k <= self.config.chains.count() => Ok(logits),
            _ => candle_core::bail!("k = {k}; expected 1 to {}", self.config.chains.count()),
        }
    }
}

struct Layer {
    input_norm: ChainNorm,
    attention: Attention,
    post_attention_norm: ChainNorm,
    mlp: Mlp,
}

impl Layer {
    fn new(config: &ColmConfig, weights: VarBuilder) -> Result<Self> {
        Ok(Self {
            input_norm: ChainNorm::new(config, weights.pp("input_layernorm"))?,
            attention: Attention::new(config, weights.pp("self_attn"))?,
            post_attention_norm: ChainNorm::new(config, weights.pp("post_attention_layernorm"))?,
            mlp: Mlp::new(config, weights.pp("mlp"))?,
        })
    }

    fn forward(&self, x: &Tensor, rope: &Rope, causal: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention.forward(&self.input_norm.forward(x)?, rope, causal)?)?;
        &x + self.mlp.forward(&self.post_attention_norm.forward(&x)?)?
    }
}

/// A linear layer in which output chain i reads input chains `1..=i`; the other blocks are masked.
struct MaskedLinear {
    /// `[out, in]`
    weight: Tensor,
    /// `[out, in]`: 1 where a block exists, 0 elsewhere.
    mask: Tensor,
    bias: Option<Tensor>,
}

impl MaskedLinear {
    fn new(output: &Split, input: &Split, bias: bool, weights: VarBuilder) -> Result<Self> {
        let axes = Axes::Linear(output.clone(), input.clone());
        let parameter = Parameter { module: weights.prefix(), leaf: "weight", axes };
        let mask = parameter.mask(output.count()).map_err(candle_core::Error::wrap)?;
        Ok(Self {
            weight: weights.get((output.total(), input.total()), "weight")?,
            mask,
            bias: if bias { Some(weights.get(output.total(), "bias")?) } else { None },
        })
    }

    /// `[batch, tokens, in]` to `[batch, tokens, out]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, length, width) = x.dims3()?;
        let weight = (&self.weight * &self.mask)?;
        let y = x.reshape((batch * length, width))?.matmul(&weight.t()?)?;
        let y = y.reshape((batch, length, ()))?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// RMSNorm with the mean over each chain, not over the whole vector.
struct ChainNorm {
    /// `[hidden]`
    weight: Tensor,
    /// `[hidden, chains]`: a product with column i is the mean over chain i.
    average: Tensor,
    /// `[chains, hidden]`: a product with row i repeats a value over chain i.
    spread: Tensor,
    eps: f64,
}

impl ChainNorm {
    fn new(config: &ColmConfig, weights: VarBuilder) -> Result<Self> {
        let (split, chains) = (&config.hidden, config.chains.count());
        let rows = (0..chains).flat_map(|i| {
            (0..split.total()).map(move |at| f32::from(u8::from(split.range(i).contains(&at))))
        });
        let spread = Tensor::from_iter(rows, &Device::Cpu)?.reshape((chains, split.total()))?;
        let widths: Vec<f32> = (0..chains).map(|i| split.of(i) as f32).collect();
        let widths = Tensor::new(widths, &Device::Cpu)?;
        Ok(Self {
            weight: weights.get(split.total(), "weight")?,
            average: spread.t()?.broadcast_div(&widths)?.contiguous()?,
            spread,
            eps: config.file.rms_norm_eps,
        })
    }

    /// `[batch, tokens, hidden]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let rows = x.flatten_to(1)?;
        let mean = rows.sqr()?.matmul(&self.average)?;
        let scale = (mean + self.eps)?.sqrt()?.recip()?.matmul(&self.spread)?;
        (rows * scale)?.broadcast_mul(&self.weight)?.reshape(x.shape())
    }
}

/// RMSNorm over each head, with one weight per chain.
struct HeadNorm {
    /// For each head the weight of its chain, `[heads, 1, head_dim]`.
    weight: Tensor,
    eps: f64,
}

impl HeadNorm {
    /// The norm of `heads`; None if the model has none. The weights of its chains have the sizes of `shares`.
    fn new(
        config: &ColmConfig,
        shares: &Split,
        heads: &Split,
        weights: VarBuilder,
    ) -> Result<Option<Self>> {
        if !config.file.qk_norm {
            return Ok(None);
        }
        let weight = weights.get(shares.total(), "weight")?;
        let chains = 0..heads.count();
        let of_heads = chains.flat_map(|i| std::iter::repeat_n(shares.range(i), heads.of(i)));
        let of_heads = of_heads.map(|range| weight.narrow(0, range.start, range.len()));
        let weight = Tensor::stack(&of_heads.collect::<Result<Vec<_>>>()?, 0)?.unsqueeze(1)?;
        Ok(Some(Self { weight, eps: config.file.rms_norm_eps }))
    }

    /// `[batch, heads, tokens, head_dim]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?.recip()?;
        x.broadcast_mul(&scale)?.broadcast_mul(&self.weight)
    }
}

struct Attention {
    q: MaskedLinear,
    k: MaskedLinear,
    v: MaskedLinear,
    o: MaskedLinear,
    q_norm: Option<HeadNorm>,
    k_norm: Option<HeadNorm>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// For each query head, the key/value head that it reads; u32.
    kv_head_indices: Tensor,
}

impl Attention {
    fn new(config: &ColmConfig, weights: VarBuilder) -> Result<Self> {
        let (heads, kv_heads) = (&config.heads, &config.kv_heads);
        let (q, kv) = (heads.scaled(config.head_dim), kv_heads.scaled(config.head_dim));
        let (hidden, bias) = (&config.hidden, config.file.attention_bias);
        let mut kv_head_indices = Vec::new();
        for i in 0..config.chains.count() {
            let owned = kv_heads.range(config.kv_owner(i));
            let of_chain = heads.of(i);
            kv_head_indices
                .extend((0..of_chain).map(|h| (owned.start + h * owned.len() / of_chain) as u32));
        }
        Ok(Self {
            q: MaskedLinear::new(&q, hidden, bias, weights.pp("q_proj"))?,
            k: MaskedLinear::new(&kv, hidden, bias, weights.pp("k_proj"))?,
            v: MaskedLinear::new(&kv, hidden, bias, weights.pp("v_proj"))?,
            o: MaskedLinear::new(hidden, &q, bias, weights.pp("o_proj"))?,
            q_norm: HeadNorm::new(config, &config.query_norm(), heads, weights.pp("q_norm"))?,
            k_norm: HeadNorm::new(config, &config.key_norm(), kv_heads, weights.pp("k_norm"))?,
            heads: heads.total(),
            kv_heads: kv_heads.total(),
            head_dim: config.head_dim,
            kv_head_indices: Tensor::new(kv_head_indices, &Device::Cpu)?,
        })
    }

    fn forward(&self, x: &Tensor, rope: &Rope, causal: &Tensor) -> Result<Tensor> {
        let (batch, length, _) = x.dims3()?;
        let by_head = |y: Tensor, heads| -> Result<Tensor> {
            y.reshape((batch, length, heads, self.head_dim))?.transpose(1, 2)?.contiguous()
        };
        let normed = |x: Tensor, norm: &Option<HeadNorm>| match norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        };
        let q = normed(by_head(self.q.forward(x)?, self.heads)?, &self.q_norm)?;
        let k = normed(by_head(self.k.forward(x)?, self.kv_heads)?, &self.k_norm)?;
        let (q, k) = (rope.rotate(&q)?, rope.rotate(&k)?);
        let k = k.index_select(&self.kv_head_indices, 1)?;
        let v =
            by_head(self.v.forward(x)?, self.kv_heads)?.index_select(&self.kv_head_indices, 1)?;
        let scale = (self.head_dim as f64).sqrt().recip();
        let scores = (q * scale)?.matmul(&k.t()?)?.broadcast_add(causal)?;
        let y = softmax(&scores, D::Minus1)?.matmul(&v)?;
        self.o.forward(&y.transpose(1, 2)?.reshape((batch, length, ()))?)
    }
}

struct Mlp {
    gate: MaskedLinear,
    up: MaskedLinear,
    down: MaskedLinear,
}

impl Mlp {
    fn new(config: &ColmConfig, weights: VarBuilder) -> Result<Self> {
        let (hidden, intermediate) = (&config.hidden, &config.intermediate);
        let bias = config.file.mlp_bias;
        Ok(Self {
            gate: MaskedLinear::new(intermediate, hidden, bias, weights.pp("gate_proj"))?,
            up: MaskedLinear::new(intermediate, hidden, bias, weights.pp("up_proj"))?,
            down: MaskedLinear::new(hidden, intermediate, bias, weights.pp("down_proj"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.down.forward(&(self.gate.forward(x)?.silu()? * self.up.forward(x)?)?)
    }
}
