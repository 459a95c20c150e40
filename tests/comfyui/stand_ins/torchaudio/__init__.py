"""A stand-in for torchaudio, so that a ComfyUI checkout starts on torch alone."""

from torchaudio import functional as functional
from torchaudio import transforms as transforms
