"""A stand-in for torchvision, so that a ComfyUI checkout starts on torch alone. It transforms nothing."""

from torchvision import models as models
from torchvision import transforms as transforms
