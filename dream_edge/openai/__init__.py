"""OpenAI's protocol: what may be asked, the texts that answer it, and the JSON that holds them.

The server and the batches speak it; it knows neither of them.
"""
