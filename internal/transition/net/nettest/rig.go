// Package nettest starts real Neutron servers for tests, on a MariaDB server of the test's
// own, with a Keystone, a message bus and network agents where a test wants them.
package nettest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// patience is how long a server may take to start on a busy machine.
const patience = 10 * time.Minute

// python is the one that has the distribution's modules: another may be first in PATH.
const python = "/usr/bin/python3"

// Server is a neutron-server with a database of its own.
type Server struct {
	DB   *aligntest.Rig
	Name string // of the database
	dir  string
	port int
	keys *Keystone // nil: without authentication
	bus  *Bus      // nil: nobody hears it
	more bool      // plug-ins and drivers of a platform that uses much of Neutron
	*process
}

// process is a server's process.
type process struct {
	done chan struct{}
	pid  int
}

// Endpoint is the API's address.
func (s *Server) Endpoint() string { return fmt.Sprintf("http://127.0.0.1:%d", s.port) }

// Start starts a server on a database of a name on the rig. With ids it has our extension.
// The test is skipped with -short, and where Neutron is not installed.
func Start(t testing.TB, rig func(testing.TB) *aligntest.Rig, name string, ids bool) *Server {
	t.Helper()
	needs(t)
	s := &Server{DB: rig(t), Name: name, dir: try.ShortDir(t)}
	s.launch(t, ids)
	return s
}

// StartOnBus is Start with our extension, of a server that talks to agents.
func StartOnBus(t testing.TB, rig func(testing.TB) *aligntest.Rig, name string, bus *Bus) *Server {
	t.Helper()
	needs(t)
	s := &Server{DB: rig(t), Name: name, dir: try.ShortDir(t), bus: bus}
	s.launch(t, true)
	return s
}

// StartWithMore is Start with our extension, of a server that has QoS, trunks and more, as Shapes needs.
func StartWithMore(t testing.TB, rig func(testing.TB) *aligntest.Rig, name string) *Server {
	t.Helper()
	needs(t)
	s := &Server{DB: rig(t), Name: name, dir: try.ShortDir(t), more: true}
	s.launch(t, true)
	return s
}

func needs(t testing.TB) {
	t.Helper()
	need.Real(t, need.Programs("neutron-server", "neutron-server"), need.Programs("neutron-common", "neutron-db-manage"), importable)
}

// importable asks once in a process.
var importable = sync.OnceValue(func() error {
	if out, err := exec.Command(python, "-c", "import neutron, pymysql").CombinedOutput(); err != nil {
		return fmt.Errorf("no Neutron is installed for %s: %s", python, out)
	}
	return nil
})

func (s *Server) launch(t testing.TB, ids bool) {
	t.Helper()
	s.DB.SQL("CREATE DATABASE `" + s.Name + "` CHARACTER SET utf8mb3")
	s.configure(t, ids)
	s.schema(t)
	s.start(t)
}

const settings = `[DEFAULT]
core_plugin = ml2
service_plugins = router%s
%s
auth_strategy = noauth
transport_url = %s
bind_host = 127.0.0.1
bind_port = %d
api_workers = 0
rpc_workers = 0
rpc_state_report_workers = 0
state_path = %s/state
log_file = %s/log
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
dhcp_agent_notification = false
api_paste_config = %s/paste.ini
debug = false
use_stderr = false
[database]
connection = mysql+pymysql://holdfast:p%%40ss%%3Aw%%2Frd@127.0.0.1:%d/%s?charset=utf8
[oslo_concurrency]
lock_path = %s/lock
[quotas]
default_quota = -1
quota_network = -1
quota_subnet = -1
quota_port = -1
quota_security_group = -1
quota_security_group_rule = -1
`

// The ranges have the numbers of Platform and some more: a server writes a row for each number when it starts, and 100,000 of them
// take it as long as all else.
const ml2 = `[ml2]
type_drivers = flat,vlan,vxlan,local
tenant_network_types = vxlan
mechanism_drivers = openvswitch
extension_drivers = port_security
[ml2_type_flat]
flat_networks = physnet1
[ml2_type_vlan]
network_vlan_ranges = physnet1:200:299
[ml2_type_vxlan]
vni_ranges = 7000:7099
[securitygroup]
enable_security_group = true
firewall_driver = openvswitch
`

// paste is the API as Neutron's own file has it.
const paste = `[composite:neutron]
use = egg:Paste#urlmap
/: neutronversions
/v2.0: neutronapi
[composite:neutronapi]
use = call:neutron.auth:pipeline_factory
noauth = request_id fake_project_id catch_errors extensions neutronapiapp
keystone = request_id catch_errors authtoken keystonecontext extensions neutronapiapp
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
[filter:keystonecontext]
paste.filter_factory = neutron.auth:NeutronKeystoneContext.factory
[filter:request_id]
paste.filter_factory = oslo_middleware:RequestId.factory
[filter:fake_project_id]
paste.filter_factory = neutron.auth:NoauthFakeProjectId.factory
[filter:catch_errors]
paste.filter_factory = oslo_middleware:CatchErrors.factory
[filter:extensions]
paste.filter_factory = neutron.api.extensions:plugin_aware_extension_middleware_factory
[app:neutronversions]
paste.app_factory = neutron.pecan_wsgi.app:versions_factory
[app:neutronapiapp]
paste.app_factory = neutron.api.v2.router:APIRouter.factory
`

func (s *Server) configure(t testing.TB, ids bool) {
	t.Helper()
	s.port = freePort(t)
	plugin, path := "", ""
	if ids {
		plugin, path = ",holdfast_client_ids.ClientIdsPlugin", "api_extensions_path = "+filepath.Join(try.Module(t), "packaging", "neutron")
	}
	ml2 := ml2
	if s.more {
		plugin += ",qos,trunk"
		ml2 = strings.Replace(ml2, "extension_drivers = port_security",
			"extension_drivers = port_security,qos,dns_domain_ports,port_numa_affinity_policy", 1)
	}
	conf := fmt.Sprintf(settings, plugin, path, s.bus.url(), s.port, s.dir, s.dir, s.dir, s.DB.Port(), s.Name, s.dir)
	if s.keys != nil {
		conf = strings.Replace(conf, "auth_strategy = noauth", "auth_strategy = keystone", 1) + s.keys.settings()
	}
	for name, text := range map[string]string{"neutron.conf": conf, "ml2.ini": ml2, "paste.ini": paste} {
		try.Must(t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
	}
	for _, d := range []string{"state", "lock"} {
		try.Must(t, os.Mkdir(filepath.Join(s.dir, d), 0o700))
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	try.Must(t, l.Close())
	return l.Addr().(*net.TCPAddr).Port
}

func (s *Server) args() []string {
	return []string{"--config-file", filepath.Join(s.dir, "neutron.conf"), "--config-file", filepath.Join(s.dir, "ml2.ini")}
}

// schemas are the tables of a new Neutron: made once by Neutron's own program in a process
// of tests, and copied afterwards.
var schemas = struct {
	sync.Mutex
	text string
}{}

func (s *Server) schema(t testing.TB) {
	t.Helper()
	schemas.Lock()
	defer schemas.Unlock()
	if schemas.text != "" {
		s.DB.SQL("USE `" + s.Name + "`;\n" + schemas.text)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, append(append([]string{"/usr/bin/neutron-db-manage"}, s.args()...),
		"upgrade", "heads")...).CombinedOutput()
	if err != nil {
		t.Fatalf("neutron-db-manage: %v\n%s", err, out)
	}
	dump, err := exec.CommandContext(ctx, "mariadb-dump", "--no-defaults", "--socket="+s.DB.Socket(), "--user=root", s.Name).Output()
	if err != nil {
		t.Fatalf("mariadb-dump: %v", err)
	}
	schemas.text = string(dump)
}

// Schema makes a database that has a server's tables, and nobody's rows, and returns its name.
func Schema(t testing.TB, s *Server, name string) string {
	t.Helper()
	schemas.Lock()
	defer schemas.Unlock()
	s.DB.SQL("CREATE DATABASE `" + name + "` CHARACTER SET utf8mb3; USE `" + name + "`;\n" + schemas.text)
	return name
}

// Python runs a program with Neutron's modules and this server's settings, and returns what it prints.
func (s *Server) Python(t testing.TB, script string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, append(append([]string{script}, args...), s.args()...)...)
	cmd.Env = s.env(t)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", script, err, said.String(), s.Log())
	}
	return string(out)
}

func (s *Server) env(t testing.TB) []string {
	return append(os.Environ(), "PYTHONPATH="+filepath.Join(try.Module(t), "packaging", "neutron"), "PYTHONDONTWRITEBYTECODE=1")
}

// start starts the server and waits until it answers. It ends with the test, and with the
// test's process.
func (s *Server) start(t testing.TB) {
	t.Helper()
	// Its workers do not end with it.
	cmd := exec.Command("unshare", slices.Concat(apart, []string{python, "/usr/bin/neutron-server"}, s.args())...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Env = s.env(t)
	s.process = begin(t, cmd, filepath.Join(s.dir, "out"))
	want := http.StatusOK
	if s.keys != nil {
		want = http.StatusUnauthorized
	}
	s.answers(t, "neutron-server", s.Endpoint()+"/v2.0/networks?limit=1", want, s.Log)
}

// apart are arguments of unshare(1) with which a program is the first process of a namespace: all that it starts ends with it.
var apart = []string{"--pid", "--fork", "--kill-child=KILL", "--mount-proc"}

// begin starts a server. It ends with the test, and with the test's process.
func begin(t testing.TB, cmd *exec.Cmd, log string) *process {
	t.Helper()
	out, err := os.Create(log)
	try.Must(t, err)
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil { // a group of its own, so that its workers end with it
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	}
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(p.done)
		runtime.LockOSThread() // Pdeathsig counts from the end of this thread
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- errors.Join(err, out.Close())
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	try.Must(t, <-started)
	p.pid = cmd.Process.Pid
	t.Cleanup(func() { p.end(t) })
	return p
}

// answers waits until the server answers with a status.
func (p *process) answers(t testing.TB, name, url string, status int, log func() string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		select {
		case <-p.done:
			t.Fatalf("%s ended at its start:\n%s", name, log())
		default:
		}
		if res, err := http.Get(url); err == nil {
			_ = res.Body.Close() // only the status counts
			if res.StatusCode == status {
				return
			}
		}
	}
	t.Fatalf("%s does not answer:\n%s", name, log())
}

func (p *process) end(t testing.TB) {
	if err := syscall.Kill(-p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("end of a server: %v", err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Error("a server does not end after it was killed")
	}
}

// Log is the end of what the server wrote, for a test that failed.
func (s *Server) Log() string {
	var b strings.Builder
	for _, name := range []string{"out", "log"} {
		text, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			text = []byte(err.Error())
		}
		b.Write(text[max(0, len(text)-4000):])
	}
	return b.String()
}

// MariaDB starts a server for the databases of one test.
func MariaDB(t testing.TB) *aligntest.Rig { return aligntest.MariaDB(t, "--max-connections=300") }
