"""What can be asked in Google's dialect, as the vendor serves it?"""

from collections.abc import Mapping

from gateway.call import Operation

ASKED, READ = ("POST",), ("GET", "HEAD")

GENERATE = Operation(name="generateContent", http=ASKED, bills="tokens", expects_usage=True, cacheable=True)
STREAM = Operation(name="streamGenerateContent", http=ASKED, bills="tokens", expects_usage=True, cacheable=True)
LIST_MODELS = Operation(name="listModels", http=READ, takes="nothing", lists=True)
GET_MODEL = Operation(name="getModel", http=READ, takes="nothing", lists=True)

ACTIONS: Mapping[str, Operation] = {
    operation.name: operation
    for operation in (
        GENERATE,
        STREAM,
        Operation(name="countTokens", http=ASKED),
        Operation(name="embedContent", http=ASKED, bills="tokens"),
        Operation(name="batchEmbedContents", http=ASKED, bills="tokens"),
    )
}
