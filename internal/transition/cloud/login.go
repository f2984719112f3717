// Package cloud logs in to an OpenStack platform by the variables that openstack(1) takes, and asks its services.
package cloud

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"

	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/text"
)

// From reads how to log in to Keystone from the variables of an environment, as openstack(1) takes them (version 3
// of the API): OS_AUTH_URL, and OS_TOKEN, or OS_APPLICATION_CREDENTIAL_ID and _SECRET, or OS_USERNAME or OS_USER_ID,
// OS_PASSWORD, the user's domain, and a project or OS_SYSTEM_SCOPE=all. The error is of kind fail.Invalid.
func From(getenv func(string) string) (*gophercloud.AuthOptions, error) {
	o := &gophercloud.AuthOptions{IdentityEndpoint: getenv("OS_AUTH_URL"), AllowReauth: true}
	if text.HTTP(o.IdentityEndpoint) == nil {
		wrong := fail.Errorf(fail.Invalid, "OS_AUTH_URL: value %q: want http://HOST:PORT/v3 or https://HOST:PORT/v3", o.IdentityEndpoint)
		if o.IdentityEndpoint == "" {
			wrong = wrong.With("source the platform's openrc file in this shell; or name the file: --openrc FILE")
		}
		return nil, wrong
	}
	if !strings.HasSuffix(strings.TrimSuffix(o.IdentityEndpoint, "/"), "/v3") {
		o.IdentityEndpoint = strings.TrimSuffix(o.IdentityEndpoint, "/") + "/v3"
	}
	scope := &gophercloud.AuthScope{ProjectID: getenv("OS_PROJECT_ID"), System: getenv("OS_SYSTEM_SCOPE") == "all"}
	if scope.ProjectID == "" && !scope.System {
		scope.ProjectName = getenv("OS_PROJECT_NAME")
		if scope.DomainID = getenv("OS_PROJECT_DOMAIN_ID"); scope.DomainID == "" {
			scope.DomainName = getenv("OS_PROJECT_DOMAIN_NAME")
		}
	}
	switch {
	case getenv("OS_TOKEN") != "":
		o.TokenID, o.AllowReauth = getenv("OS_TOKEN"), false
		return o, nil // it has a scope already
	case getenv("OS_APPLICATION_CREDENTIAL_ID") != "":
		o.ApplicationCredentialID, o.ApplicationCredentialSecret = getenv("OS_APPLICATION_CREDENTIAL_ID"),
			getenv("OS_APPLICATION_CREDENTIAL_SECRET")
		return o, nil // it is of a project
	}
	o.Scope, o.Password, o.UserID = scope, getenv("OS_PASSWORD"), getenv("OS_USER_ID")
	if o.UserID == "" {
		o.Username = getenv("OS_USERNAME")
		if o.DomainID = getenv("OS_USER_DOMAIN_ID"); o.DomainID == "" {
			o.DomainName = getenv("OS_USER_DOMAIN_NAME")
		}
	}
	switch {
	case o.Username != "" && o.DomainID+o.DomainName == "":
		return nil, fail.Errorf(fail.Invalid, "OS_USER_DOMAIN_NAME: value \"\": want the domain of the user %s, such as Default", o.Username)
	case scope.ProjectName != "" && scope.DomainID+scope.DomainName == "":
		return nil, fail.Errorf(fail.Invalid, "OS_PROJECT_DOMAIN_NAME: value \"\": want the domain of the project "+
			"%s, such as Default", scope.ProjectName)
	case o.UserID == "" && o.Username == "":
		return nil, fail.Errorf(fail.Invalid, "OS_USERNAME: value %q: want a user and OS_USER_DOMAIN_NAME, "+
			"OS_USER_ID, OS_TOKEN or OS_APPLICATION_CREDENTIAL_ID", o.Username)
	case o.Password == "":
		return nil, fail.Errorf(fail.Invalid, "OS_PASSWORD: value \"\": want the user's password")
	case !scope.System && scope.ProjectID == "" && scope.ProjectName == "":
		return nil, fail.Errorf(fail.Invalid, "OS_PROJECT_NAME: value %q: want a project and OS_PROJECT_DOMAIN_NAME, "+
			"OS_PROJECT_ID, or OS_SYSTEM_SCOPE=all", scope.ProjectName)
	}
	return o, nil
}

// Login logs in, with a client for all requests that carry the token. A token that has ended is replaced, where the
// login has a password. The error is of kind fail.Invalid, or fail.Unavailable.
func Login(ctx context.Context, o *gophercloud.AuthOptions, client http.Client) (*gophercloud.ProviderClient, error) {
	provider, err := openstack.NewClient(o.IdentityEndpoint)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "OS_AUTH_URL: value %q: %w", o.IdentityEndpoint, err)
	}
	provider.HTTPClient = client
	err = openstack.AuthenticateV3(ctx, provider, o, gophercloud.EndpointOpts{})
	var code gophercloud.ErrUnexpectedResponseCode
	switch {
	case err == nil:
		return provider, nil
	case errors.Is(err, context.Canceled):
		return nil, err
	case errors.As(err, &code):
		refused := fail.Errorf(fail.Invalid, "log in to Keystone at %s: status %d: %s", o.IdentityEndpoint, code.Actual, Message(code.Body))
		if Passes(err) {
			refused.Kind = fail.Unavailable
			return nil, refused
		}
		return nil, refused.With("want a user, password and project that it knows; or, when it knows no such path, " +
			"its own address in OS_AUTH_URL")
	}
	return nil, fail.Errorf(fail.Unavailable, "log in to Keystone at %s: %w", o.IdentityEndpoint, err)
}
