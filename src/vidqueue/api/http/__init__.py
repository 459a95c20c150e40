"""The part of the HTTP door that knows no job: requests, endpoints, problems, middleware, OpenAPI."""
