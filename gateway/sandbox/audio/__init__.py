"""Sound on OpenAI's routes: it is made from text, and written down again."""
