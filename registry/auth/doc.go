// Package auth answers the challenges of registries. A registry answers a request that
// needs a login with status 401 and challenges in the header WWW-Authenticate.
// [Client.Authorize] makes of them, and of the user's credentials, the header
// Authorization of the next request.
//
// A challenge of the scheme Basic is answered with user and password. One of the scheme
// Bearer names a token server, the realm, which gives a token for the wanted scopes: to
// a GET with the credentials as Basic, or to a POST of OAuth 2.0 with an identity token.
// Without credentials the token is an anonymous one.
//
// # Where credentials go
//
// The registry chooses the token server. Credentials are sent there only
//
//   - by https, to any host, or
//   - by http, to the host of a registry that is itself used by http, or
//   - by http, to a host that the user's configuration names ([Client.Known]).
//
// A redirect of a token server gets no credentials, unless it stays at the same scheme,
// host and port. A POST is not redirected. Where credentials must not go, or are
// refused, an anonymous token is tried; [Grant.Note] says so.
//
// # What a registry can make a client contact
//
// A registry, and a token server that it names, can make the client send a GET to any
// address by http or https, as it can with Docker. A POST goes only to a server that
// credentials may go to. The answer is not given to the registry, except for the value
// of "token" or "access_token" in a JSON object. Token servers with a link-local address,
// such as the metadata service of a cloud, are refused unless the registry has the same
// host, or the user's configuration names it.
//
// # Sources
//
// RFC 9110, 11 (challenges); distribution/distribution docs/content/spec/auth (token and
// oauth2). Token servers differ from both in the ways that the tests list.
package auth
