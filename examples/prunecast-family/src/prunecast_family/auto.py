"""Registers the classes with transformers; prunecast imports this module when it meets a model of the family."""

from transformers import AutoConfig, AutoModelForCausalLM

from prunecast_family.modeling_twin import TwinConfig, TwinForCausalLM

AutoConfig.register("twin", TwinConfig, exist_ok=True)
AutoModelForCausalLM.register(TwinConfig, TwinForCausalLM, exist_ok=True)
# A saved model has a copy of the code beside its weights.
TwinConfig.register_for_auto_class()
TwinForCausalLM.register_for_auto_class("AutoModelForCausalLM")
