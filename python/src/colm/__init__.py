"""Chain-of-Language-Models (CoLM, CoLM-Air) for transformers: one checkpoint, n models.

Importing this package makes the Auto classes of transformers know the models. A checkpoint that ``save_pretrained``
writes loads in ``colm serve`` as it is.
"""

try:
    import torch as _torch  # noqa: F401
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
except ModuleNotFoundError as _error:
    # The wheel also brings the programs, which need neither.
    if _error.name not in ("torch", "transformers"):
        raise
    _message = f"the Python package colm needs {_error.name}; `pip install {_error.name}` installs it"
    raise ModuleNotFoundError(_message, name=_error.name) from None

from .backbone import ColmAirModel, ColmModel, ColmModelOutput
from .chain_freezing import chain_of, chain_parameters, freeze_backbone, freeze_chains
from .configuration_colm import ColmAirConfig, ColmConfig
from .modeling_colm import ColmAirForCausalLM, ColmCausalLMOutput, ColmForCausalLM

__version__ = "0.1.0"

__all__ = [
    "ColmAirConfig",
    "ColmAirForCausalLM",
    "ColmAirModel",
    "ColmCausalLMOutput",
    "ColmConfig",
    "ColmForCausalLM",
    "ColmModel",
    "ColmModelOutput",
    "chain_of",
    "chain_parameters",
    "freeze_backbone",
    "freeze_chains",
]

for _config, _backbone, _language_model in (
    (ColmConfig, ColmModel, ColmForCausalLM),
    (ColmAirConfig, ColmAirModel, ColmAirForCausalLM),
):
    AutoConfig.register(_config.model_type, _config)
    AutoModel.register(_config, _backbone)
    AutoModelForCausalLM.register(_config, _language_model)
    # `save_pretrained` then puts these modules beside the weights, for programs without this package.
    _config.register_for_auto_class()
    _backbone.register_for_auto_class("AutoModel")
    _language_model.register_for_auto_class("AutoModelForCausalLM")
