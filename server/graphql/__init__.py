"""The front door of the GraphQL API: everything between a socket and a resolver.

`view.GraphQL(schema)` is the ASGI application of `/graphql` and `/graphql/stream`. Read it in this order: `http`,
`ws`, `sse` (transports) → `door` and `watch` (what happens to a request) → `documents`, `cost`, `executor` (how) →
`masking` (what clients see of errors).
"""
