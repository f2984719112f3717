// Package provider logs people in by an OpenID provider (OpenID Connect Core 1.0, the authorization code with PKCE). It
// tells who somebody is and which role the groups have that the provider tells of; sessions are the caller's.
//
// The provider is asked only while somebody logs in by it, each time for a bounded time and a bounded answer. None of its
// tokens is kept.
package provider
