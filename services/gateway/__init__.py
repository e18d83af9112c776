"""The gateway: HTTP for people and programs, before the four gRPC services.

Comes in: requests with a key, or with the cookie of the page's one-time link. Goes out: OpenAI's shapes where OpenAI
has one, plain JSON elsewhere (docs/http-api.md), and the page. Does not know: how anything is crawled, indexed,
found or answered; it holds keys, the audit and limits, and calls the services for the rest.

    bootstrap.py       Settings → a Gateway that serves; opens the adapters
    settings.py        each setting with its unit and reason
    api.py             the application put together; every error in OpenAI's shape; the OpenAPI document
    routes.py          the table: each route once, with the role it needs
    edge.py            around every request: trace, Host, Origin, size, headers, metrics, one log line
    auth.py            keys, the page's session, the one-time link, the process's own key
    call.py            what a route's function is given
    names.py           which authors there are, remembered for a moment
    shapes.py          JSON that several routes speak
    openai.py          OpenAI's requests and shapes, field by field
    chat.py models.py embeddings.py search.py generations.py          answers
    ingest.py jobs.py sources.py documents.py authors.py              the corpus
    keys.py administration.py status.py                               running it
    static.py          the page (static/, made from page/) and the reference at /docs (reference/)
"""
