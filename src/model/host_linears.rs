//! Linear layers of the host: they load weights, quantize them, and multiply with the quantized types that colm has no
//! kernels for.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Error, Result, Tensor};
use candle_nn::Linear;
use colm_checkpoint::panics::catch;
use colm_kernels::{ChainWeights, MatmulPrecision, Unpacked};
use mistralrs_quant::{GgufMatMul, QuantMethod, QuantMethodConfig, UnquantLinear};

/// The weights of a layer as the host holds them: one [`QuantMethod`] per chain, so that no k needs a slice of a
/// quantized matrix.
pub type HostLinears = Vec<Arc<dyn QuantMethod>>;

/// W_i and b_i.
pub(super) type WeightAndBias = (Tensor, Option<Tensor>);

/// The weight and bias of `linear`; None if it is quantized, or on a device without kernels.
pub(super) fn unquantized_weight(linear: &Arc<dyn QuantMethod>) -> Result<Option<WeightAndBias>> {
    // For weights that wait to be quantized, `unquant_weight_bias` returns the original ones: check the name.
    let plain =
        linear.name() == "unquant-linear" && colm_kernels::supports_device(&device_of(linear)?);
    Ok(plain.then(|| linear.unquant_weight_bias()).flatten())
}

/// `linears` packed together, for activations at `precision`; None if their types differ, or if the kernels do not support
/// their type.
pub(super) fn pack_linears(
    linears: &[Arc<dyn QuantMethod>],
    precision: MatmulPrecision,
) -> Result<Option<ChainWeights>> {
    let devices = linears.iter().map(device_of).collect::<Result<Vec<_>>>()?;
    if devices.iter().all(Device::is_cpu) {
        let quantized = linears.iter().map(quantized_weight).collect::<Result<Option<Vec<_>>>>()?;
        if let Some(quantized) = quantized {
            let (weights, biases): (Vec<QTensor>, Vec<Option<Tensor>>) =
                quantized.into_iter().unzip();
            let alike = weights.iter().all(|weight| weight.dtype() == weights[0].dtype());
            let biases: Vec<Tensor> = biases.into_iter().flatten().collect();
            let pack = || ChainWeights::pack_quantized(&weights, &biases, precision);
            return alike.then(pack).transpose();
        }
    }
    let plain = linears.iter().map(|linear| linear.unquant_weight_bias());
    let plain = plain.collect::<Option<Vec<_>>>();
    let plain = plain.filter(|_| devices.iter().all(colm_kernels::supports_device));
    plain.map(|plain| ChainWeights::pack_floats(&plain, precision)).transpose()
}

/// The device of the weights.
///
/// Fails if the host could not quantize them: the host panics in that case.
fn device_of(linear: &Arc<dyn QuantMethod>) -> Result<Device> {
    let device = catch(|| linear.dtype_and_device().1);
    device.map_err(|why| Error::Msg(format!("the engine cannot quantize this model: {why}")))
}

/// Weights that the host has quantized to a ggml type that the kernels support; None if it is another type.
///
/// The host has no accessor for them, so this reads their UQFF form: version, kind (0: ggml), length, whether there
/// is a bias, dtype, rank, the two dimensions (all u32 except kind and bias, which are bytes), the data, and the bias in
/// f32, as the host keeps it: length, dtype, rank, dimension, numbers.
fn quantized_weight(linear: &Arc<dyn QuantMethod>) -> Result<Option<(QTensor, Option<Tensor>)>> {
    const HEADER: usize = 26;
    const GGML: u8 = 0;
    if !["gguf", "pending-isq"].contains(&linear.name()) {
        return Ok(None);
    }
    // Types that have no UQFF form stay with the host.
    let Ok(uqff) = linear.serialize() else { return Ok(None) };
    let Some((header, bytes)) = uqff.split_at_checked(HEADER) else { return Ok(None) };
    let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
    if header[4] != GGML || number(14) != 2 {
        return Ok(None);
    }
    let dtype = match number(10) {
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        _ => return Ok(None),
    };
    let shape = (number(18) as usize, number(22) as usize);
    let Some((weight, rest)) = bytes.split_at_checked(number(5) as usize) else { return Ok(None) };
    let bias = match (header[9], rest.len().checked_sub(4 * shape.0).map(|at| &rest[at..])) {
        (0, _) => None,
        (_, Some(numbers)) => {
            Some(Tensor::from_raw_buffer(numbers, DType::F32, &[shape.0], &Device::Cpu)?)
        }
        (_, None) => return Ok(None),
    };
    let storage = QStorage::from_data(Cow::Borrowed(weight), &Device::Cpu, dtype)?;
    Ok(Some((QTensor::new(storage, shape)?, bias)))
}

/// `weights` as linear layers of the host.
pub(super) fn host_linears(weights: Unpacked) -> Result<HostLinears> {
    let linear = |weights: QuantMethodConfig| -> Result<Arc<dyn QuantMethod>> {
        match weights {
            QuantMethodConfig::Gguf { .. } => Ok(Arc::new(GgufMatMul::new(weights)?)),
            _ => Ok(Arc::new(UnquantLinear::new(weights)?)),
        }
    };
    match weights {
        Unpacked::Floats(weights) => {
            let weights = weights.into_iter().map(|(weight, bias)| {
                linear(QuantMethodConfig::Unquantized(Linear::new(weight, bias)))
            });
            weights.collect()
        }
        Unpacked::Quantized(weights) => {
            let weights = weights.into_iter().map(|(weight, bias)| {
                linear(QuantMethodConfig::Gguf { q_weight: Arc::new(weight), b: bias })
            });
            weights.collect()
        }
    }
}

/// The product of a linear layer of the host with `x`, in the dtype of `x`.
pub(super) fn linear_forward(linear: &Arc<dyn QuantMethod>, x: &Tensor) -> Result<Tensor> {
    match linear.quantized_act_type() {
        Some(_) => linear.forward_autocast(x),
        // Unquantized weights need x in their own dtype.
        None => linear.forward(&x.to_dtype(linear.dtype_and_device().0)?)?.to_dtype(x.dtype()),
    }
}
