package cloud

import (
	"errors"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// TestFrom: what openstack(1) takes is taken, and what is missing is told by its variable.
func TestFrom(t *testing.T) {
	type env map[string]string
	from := func(e env) func(string) string {
		all := env{"OS_AUTH_URL": "http://127.0.0.1:5000", "OS_USERNAME": "a", "OS_PASSWORD": "p",
			"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_NAME": "b", "OS_PROJECT_DOMAIN_NAME": "Default"}
		for k, v := range e {
			all[k] = v
		}
		return func(name string) string { return all[name] }
	}
	o, err := From(from(nil))
	try.Must(t, err)
	if o.IdentityEndpoint != "http://127.0.0.1:5000/v3" || o.Username != "a" || o.DomainName != "Default" ||
		o.Scope.ProjectName != "b" || o.Scope.DomainName != "Default" || !o.AllowReauth {
		t.Errorf("%+v", o)
	}
	for name, e := range map[string]env{"token": {"OS_TOKEN": "t", "OS_PASSWORD": ""},
		"credential": {"OS_APPLICATION_CREDENTIAL_ID": "c", "OS_APPLICATION_CREDENTIAL_SECRET": "s", "OS_PASSWORD": ""},
		"system":     {"OS_SYSTEM_SCOPE": "all", "OS_PROJECT_NAME": ""},
		"ids":        {"OS_USER_ID": "u", "OS_USERNAME": "", "OS_PROJECT_ID": "q", "OS_PROJECT_NAME": ""},
		"v3":         {"OS_AUTH_URL": "https://k/v3/"}} {
		if _, err := From(from(e)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for want, e := range map[string]env{"OS_AUTH_URL": {"OS_AUTH_URL": "k:5000"}, "OS_USERNAME": {"OS_USERNAME": ""},
		"OS_USER_DOMAIN_NAME": {"OS_USER_DOMAIN_NAME": ""}, "OS_PASSWORD": {"OS_PASSWORD": ""},
		"OS_PROJECT_NAME": {"OS_PROJECT_NAME": ""}, "OS_PROJECT_DOMAIN_NAME": {"OS_PROJECT_DOMAIN_NAME": ""}} {
		var f *fail.Error
		if _, err := From(from(e)); !errors.As(err, &f) || f.Kind != fail.Invalid || !strings.HasPrefix(err.Error(), want+": value ") {
			t.Errorf("%v: %v, want bad input that names %s", e, err, want)
		}
	}
}
