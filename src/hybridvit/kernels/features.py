"""What timm keeps to itself and a model of timm's kind needs."""

from timm.models._features import feature_take_indices as feature_take_indices
