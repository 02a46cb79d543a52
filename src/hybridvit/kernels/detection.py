"""What torchvision's detectors keep to themselves."""

from torchvision.models.detection._utils import BoxCoder as BoxCoder
from torchvision.models.detection._utils import Matcher as Matcher
