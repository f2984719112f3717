package nettest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/try"
)

// Keystone is a real Keystone with one user, an administrator of the project of his name.
type Keystone struct {
	dir  string
	port int
	*process
}

const keystoneName, keystonePassword = "admin", "p@ss word"

// Env is a variable of an environment in which openstack(1) would log in there.
func (k *Keystone) Env(name string) string {
	return map[string]string{"OS_AUTH_URL": k.url(), "OS_USERNAME": keystoneName, "OS_PASSWORD": keystonePassword,
		"OS_PROJECT_NAME":     keystoneName,
		"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default"}[name]
}

func (k *Keystone) url() string { return fmt.Sprintf("http://127.0.0.1:%d/v3", k.port) }

// settings are those of Neutron which asks this Keystone about tokens.
func (k *Keystone) settings() string {
	return fmt.Sprintf("[keystone_authtoken]\nwww_authenticate_uri = %s\nauth_url = %s\nauth_type = "+
		"password\nusername = %s\npassword = %s\nproject_name = %s\nuser_domain_name = Default\nproject_domain_name = Default\n",
		k.url(), k.url(), keystoneName, keystonePassword, keystoneName)
}

// StartWithKeystone is Start with our extension, of a server that takes requests with a token of a Keystone only.
func StartWithKeystone(t testing.TB, rig func(testing.TB) *aligntest.Rig, name string) (*Server, *Keystone) {
	t.Helper()
	needs(t)
	const manage, public = "/usr/bin/keystone-manage", "/usr/bin/keystone-wsgi-public"
	for _, p := range []string{manage, public} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("Keystone is not installed: %v", err)
		}
	}
	s := &Server{DB: rig(t), Name: name, dir: try.ShortDir(t)}
	k := &Keystone{dir: try.ShortDir(t), port: freePort(t)}
	s.DB.SQL("CREATE DATABASE keystone CHARACTER SET utf8mb3")
	conf := filepath.Join(k.dir, "keystone.conf")
	text := fmt.Sprintf("[DEFAULT]\nuse_stderr = true\n[database]\nconnection = "+
		"mysql+pymysql://root@localhost/keystone?unix_socket=%s&charset=utf8\n[token]\nprovider = "+
		"fernet\n[fernet_tokens]\nkey_repository = %s/keys\n[fernet_receipts]\nkey_repository = %s/receipts\n",
		s.DB.Socket(), k.dir, k.dir)
	try.Must(t, os.WriteFile(conf, []byte(text), 0o600))
	for _, d := range []string{"keys", "receipts"} {
		try.Must(t, os.Mkdir(filepath.Join(k.dir, d), 0o700))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, args := range [][]string{{"db_sync"}, {"fernet_setup", "--keystone-user", "root", "--keystone-group",
		"root"}, {"bootstrap", "--bootstrap-password", keystonePassword,
		"--bootstrap-region-id", "RegionOne", "--bootstrap-public-url", k.url(), "--bootstrap-internal-url", k.url(),
		"--bootstrap-admin-url", k.url()}} {
		if out, err := exec.CommandContext(ctx, python,
			append([]string{manage, "--config-file", conf}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("keystone-manage %s: %v\n%s", args[0], err, out)
		}
	}
	cmd := exec.Command(python, public, "--host", "127.0.0.1", "--port", fmt.Sprint(k.port))
	cmd.Env = append(os.Environ(), "OS_KEYSTONE_CONFIG_FILES="+conf)
	log := filepath.Join(k.dir, "out")
	k.process = begin(t, cmd, log)
	k.answers(t, "keystone", k.url(), 200, func() string {
		text, err := os.ReadFile(log)
		if err != nil {
			return err.Error()
		}
		return string(text)
	})
	s.keys = k
	s.launch(t, true)
	return s, k
}
