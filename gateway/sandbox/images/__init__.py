"""Pictures on OpenAI's routes, in the shapes of OpenAI, Seedream and DashScope."""
