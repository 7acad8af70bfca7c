"""Files of labeled boxes: COCO, YOLO, Pascal VOC, masks; each read into one form and checked."""
