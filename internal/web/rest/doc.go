// Package rest serves the agent's API as resources with JSON, to programs with a token. It decides nothing: each call
// is one of the Connect API, made in this process in the name of the token, and is carried out or refused there. The
// document of the API is made of the same descriptors and the same table as the routes.
package rest
