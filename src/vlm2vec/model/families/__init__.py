"""Model families: each makes vectors of items in its own way, behind `model.backbone.Backbone`."""
