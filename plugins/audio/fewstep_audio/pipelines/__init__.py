"""Teachers from the field: pipelines of diffusers, distilled, and written back as pipelines."""
