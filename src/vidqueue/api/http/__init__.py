"""The part of the HTTP API that does not depend on jobs: requests, endpoints, problems, middleware, OpenAPI."""
