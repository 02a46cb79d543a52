"""Pictures with boxes: COCO, YOLO and Pascal VOC, read into one form, checked by one set of rules."""
