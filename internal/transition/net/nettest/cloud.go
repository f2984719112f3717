package nettest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/try"
)

// Cloud is a platform without a hypervisor: Keystone, Neutron, RabbitMQ, placement, Glance, Cinder, and Nova with two
// compute hosts, Hosts, of its fake driver. Each is the real program.
type Cloud struct {
	*Server
	Keys     *Keystone
	Metadata string // URL of Nova's metadata service
	Image    string // ID of an image
	Network  string // ID of a network
	t        testing.TB
	bus      *Bus
	dir      string
	ports    map[string]int
	token    string
	project  string
}

// Hosts are a Cloud's compute hosts, and Secret is what its metadata service has in common with Neutron's agent.
var Hosts = []string{"cmp1", "cmp2"}

// Secret of a Cloud's metadata service.
const Secret = "a secret of two"

// Flavors of a Cloud, by name and ID.
const Small, Large = "small", "large"

const novaConf = `[DEFAULT]
transport_url = %[1]s
state_path = %[2]s/%[3]s
use_stderr = true
host = %[3]s
compute_driver = fake.Driver
enabled_apis = osapi_compute,metadata
osapi_compute_listen = 127.0.0.1
osapi_compute_listen_port = %[4]d
osapi_compute_workers = 1
metadata_listen = 127.0.0.1
metadata_listen_port = %[5]d
metadata_workers = 1
my_ip = 127.0.0.1
my_block_storage_ip = 127.0.0.1
vif_plugging_is_fatal = false
vif_plugging_timeout = 0
[api]
auth_strategy = keystone
[wsgi]
api_paste_config = /etc/nova/api-paste.ini
[oslo_concurrency]
lock_path = %[2]s/lock
[neutron]
service_metadata_proxy = true
metadata_proxy_shared_secret = ` + Secret + `
%[6]s
[glance]
api_servers = http://127.0.0.1:%[7]d
[cinder]
%[6]s
[service_user]
send_service_user_token = true
%[6]s
[placement]
endpoint_override = http://127.0.0.1:%[8]d
%[6]s
[conductor]
workers = 1
[scheduler]
workers = 1
[compute]
live_migration_wait_for_vif_plug = false
`

const placementConf = "[DEFAULT]\nuse_stderr = true\n[api]\nauth_strategy = keystone\n[placement_database]\nconnection = %s\n"

const glanceConf = `[DEFAULT]
bind_host = 127.0.0.1
bind_port = %[1]d
workers = 0
use_stderr = true
enabled_backends = fs:file
[database]
connection = %[2]s
[glance_store]
default_backend = fs
[fs]
filesystem_store_datadir = %[3]s/images
[os_glance_staging_store]
filesystem_store_datadir = %[3]s/staging
[os_glance_tasks_store]
filesystem_store_datadir = %[3]s/tasks
[paste_deploy]
flavor = keystone
config_file = /usr/share/glance-common/glance-api-paste.ini
`

const cinderConf = `[DEFAULT]
transport_url = %s
use_stderr = true
state_path = %s/cinder
osapi_volume_listen = 127.0.0.1
osapi_volume_listen_port = %d
osapi_volume_workers = 1
auth_strategy = keystone
enabled_backends = fake
api_paste_config = /etc/cinder/api-paste.ini
host = vol1
[fake]
volume_driver = holdfast_volumes.Driver
volume_backend_name = fake
[database]
connection = %s
[oslo_concurrency]
lock_path = %s/lock
`

// StartCloud starts a platform with an image, a network and flavors. The test is skipped where a part of it is not
// installed.
func StartCloud(t testing.TB, rig func(testing.TB) *aligntest.Rig) *Cloud {
	t.Helper()
	needs(t)
	for _, p := range []string{"nova-api", "nova-conductor", "nova-scheduler", "nova-compute", "nova-manage",
		"placement-manage", "glance-api", "glance-manage", "cinder-api", "cinder-scheduler", "cinder-volume", "cinder-manage"} {
		if _, err := os.Stat("/usr/bin/" + p); err != nil {
			t.Skipf("a part of OpenStack is not installed: %v", err)
		}
	}
	c := &Cloud{t: t, bus: StartBus(t), dir: try.ShortDir(t), ports: map[string]int{}}
	c.Server, c.Keys = StartWithKeystone(t, rig, "neutron")
	c.configure()
	c.catalog()
	c.schemas()
	c.services()
	c.login()
	c.seed()
	return c
}

func (c *Cloud) file(name string) string { return filepath.Join(c.dir, name) }

// url is the address of a service's API.
func (c *Cloud) url(name string) string { return fmt.Sprintf("http://127.0.0.1:%d", c.ports[name]) }

// base is how SQLAlchemy reaches a database.
func (c *Cloud) base(name string) string {
	return fmt.Sprintf("mysql+pymysql://root@localhost/%s?unix_socket=%s&charset=utf8", name, c.DB.Socket())
}

// configure writes all configurations.
func (c *Cloud) configure() {
	for _, name := range []string{"nova", "metadata", "placement", "glance", "cinder"} {
		c.ports[name] = freePort(c.t)
	}
	c.Metadata = c.url("metadata")
	for _, d := range append([]string{"lock", "images", "nova", "cinder"}, Hosts...) {
		try.Must(c.t, os.Mkdir(c.file(d), 0o700))
	}
	auth := c.Keys.settings()
	user := strings.TrimPrefix(auth, "[keystone_authtoken]\n")
	tokens := auth + "service_token_roles = admin\nservice_token_roles_required = true\n" // else Cinder lets no volume go
	nova := func(name string) string {
		return fmt.Sprintf(novaConf, c.bus.url(), c.dir, name, c.ports["nova"], c.ports["metadata"], user,
			c.ports["glance"], c.ports["placement"])
	}
	files := map[string]string{
		"nova.conf": nova("nova") + tokens + "[api_database]\nconnection = " +
			c.base("nova_api") + "\n[database]\nconnection = " + c.base("nova") + "\n",
		"placement.conf": fmt.Sprintf(placementConf, c.base("placement")) + auth,
		"glance.conf":    fmt.Sprintf(glanceConf, c.ports["glance"], c.base("glance"), c.dir) + auth,
		"cinder.conf":    fmt.Sprintf(cinderConf, c.bus.url(), c.dir, c.ports["cinder"], c.base("cinder"), c.dir) + tokens,
	}
	for _, h := range Hosts {
		files[h+".conf"] = nova(h)
	}
	for name, text := range files {
		try.Must(c.t, os.WriteFile(c.file(name), []byte(text), 0o600))
	}
}

// catalog tells Keystone of the services, and Neutron of network agents whose heartbeats stay fresh.
func (c *Cloud) catalog() {
	var b strings.Builder
	b.WriteString("USE keystone;\n")
	for kind, url := range map[string]string{"compute": c.url("nova") + "/v2.1", "network": c.Endpoint(),
		"image": c.url("glance"), "placement": c.url("placement"), "volumev3": c.url("cinder") + "/v3/%(project_id)s"} {
		fmt.Fprintf(&b, "INSERT INTO service (id, type, enabled, extra) VALUES ('%[1]s', '%[1]s', 1, '{}');\n", kind)
		for _, of := range []string{"public", "internal", "admin"} {
			fmt.Fprintf(&b, "INSERT INTO endpoint (id, interface, service_id, url, extra, enabled, region_id) VALUES "+
				"('%[1]s %[2]s', '%[2]s', '%[1]s', '%[3]s', '{}', 1, 'RegionOne');\n", kind, of, url)
		}
	}
	fmt.Fprintf(&b, "USE `%s`;\n", c.Name)
	for i, h := range Hosts {
		fmt.Fprintf(&b, "INSERT INTO agents (id, agent_type, `binary`, topic, host, admin_state_up, created_at, "+
			"started_at, heartbeat_timestamp, configurations, `load`) VALUES "+
			"('%s', 'Open vSwitch agent', 'neutron-openvswitch-agent', 'N/A', '%s', 1, utc_timestamp(), "+
			"utc_timestamp(), utc_timestamp() + INTERVAL 1 DAY, '%s', 0);\n",
			id(1, i), h, `{"bridge_mappings":{},"tunnel_types":["vxlan"],"tunneling_ip":"10.9.0.1","datapath_type":"system","ovs_hybrid_plug":false,"integration_bridge":"br-int"}`)
	}
	c.DB.SQL(b.String())
}

// manage runs a program that makes tables, and the like.
func (c *Cloud) manage(program, conf string, args ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, append([]string{"/usr/bin/" + program, "--config-file", c.file(conf)}, args...)...)
	cmd.Env = c.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
}

func (c *Cloud) env() []string {
	return append(os.Environ(), "OS_PLACEMENT_CONFIG_DIR="+c.dir, "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+c.script(""))
}

// script is the path of a program beside this file.
func (c *Cloud) script(name string) string {
	return filepath.Join(try.Module(c.t), "internal", "transition", "net", "nettest", "testdata", name)
}

func (c *Cloud) schemas() {
	for _, name := range []string{"nova", "nova_api", "nova_cell0", "placement", "glance", "cinder"} {
		c.DB.SQL("CREATE DATABASE " + name + " CHARACTER SET utf8mb3")
	}
	c.manage("placement-manage", "placement.conf", "db", "sync")
	c.manage("nova-manage", "nova.conf", "api_db", "sync")
	c.manage("nova-manage", "nova.conf", "cell_v2", "map_cell0", "--database_connection", c.base("nova_cell0"))
	c.manage("nova-manage", "nova.conf", "cell_v2", "create_cell", "--name", "cell1", "--database_connection",
		c.base("nova"), "--transport-url", c.bus.url())
	c.manage("nova-manage", "nova.conf", "db", "sync")
	c.manage("glance-manage", "glance.conf", "db_sync")
	c.manage("cinder-manage", "cinder.conf", "db", "sync")
}

// services starts all, and waits until they answer, and Nova and Cinder know of them.
func (c *Cloud) services() {
	all := map[string]*process{}
	run := func(name string, argv ...string) {
		cmd := exec.Command(python, argv...)
		cmd.Env = c.env()
		all[name] = begin(c.t, cmd, c.file(name+".out"))
	}
	run("placement", c.script("serve_placement.py"), fmt.Sprint(c.ports["placement"]))
	all["placement"].answers(c.t, "placement", c.url("placement"), http.StatusOK, c.said("placement"))
	run("glance", "/usr/bin/glance-api", "--config-file", c.file("glance.conf"))
	for _, part := range []string{"conductor", "scheduler", "api"} {
		name := part
		if part == "api" {
			name = "nova"
		}
		run(name, "/usr/bin/nova-"+part, "--config-file", c.file("nova.conf"))
	}
	for _, h := range Hosts {
		run(h, c.script("compute.py"), "--config-file", c.file(h+".conf"))
	}
	for part, name := range map[string]string{"api": "cinder", "scheduler": "cinder-scheduler", "volume": "cinder-volume"} {
		run(name, "/usr/bin/cinder-"+part, "--config-file", c.file("cinder.conf"))
	}
	all["glance"].answers(c.t, "glance", c.url("glance"), http.StatusMultipleChoices, c.said("glance"))
	all["nova"].answers(c.t, "nova-api", c.url("nova"), http.StatusOK, c.said("nova"))
	all["cinder"].answers(c.t, "cinder-api", c.url("cinder"), http.StatusMultipleChoices, c.said("cinder"))
	c.until("two compute hosts", fmt.Sprint(len(Hosts)), "SELECT COUNT(*) FROM nova.compute_nodes")
	c.until("cinder-volume and its scheduler", "2", "SELECT COUNT(*) FROM cinder.services WHERE report_count > 0")
	c.manage("nova-manage", "nova.conf", "cell_v2", "discover_hosts")
}

func (c *Cloud) said(name string) func() string {
	return func() string {
		text, err := os.ReadFile(c.file(name + ".out"))
		if err != nil {
			return err.Error()
		}
		return string(text[max(0, len(text)-4000):])
	}
}

// until waits until a query answers something.
func (c *Cloud) until(what, want, query string) {
	c.t.Helper()
	for end := time.Now().Add(patience); c.DB.SQL(query) != want; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("no %s: %s answers %q\n%s\n%s", what, query, c.DB.SQL(query), c.said(Hosts[0])(), c.said("cinder-volume")())
		}
	}
}

// Said is the end of what all services have written, for a test that failed.
func (c *Cloud) Said() string {
	var b strings.Builder
	for _, name := range []string{"nova", "conductor", "scheduler", "cmp1", "cmp2", "cinder", "cinder-volume", "glance"} {
		fmt.Fprintf(&b, "== %s\n%s\n", name, c.said(name)())
	}
	return b.String()
}

// NovaManage runs nova-manage when its arguments are added.
func (c *Cloud) NovaManage() []string {
	return []string{python, "/usr/bin/nova-manage", "--config-file", c.file("nova.conf")}
}

// Call asks an API with the token of an administrator. service is compute, network, image, volume, placement, identity;
// version is one of its API, such as 2.74 of Nova's, or "". A status of 400 or more fails the test. v may be nil.
func (c *Cloud) Call(method, service, path, version string, body, v any) http.Header {
	c.t.Helper()
	at := map[string]string{"identity": c.Keys.url(), "compute": c.url("nova") + "/v2.1",
		"network": c.Endpoint() + "/v2.0", "image": c.url("glance") + "/v2", "placement": c.url("placement"),
		"volume": c.url("cinder") + "/v3/" + c.project}[service] + path
	text, kind := []byte(nil), "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		text, kind = b, "application/octet-stream"
	default:
		var err error
		text, err = json.Marshal(b)
		try.Must(c.t, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(text))
	try.Must(c.t, err)
	req.Header.Set("Content-Type", kind)
	req.Header.Set("X-Auth-Token", c.token)
	if version != "" {
		req.Header.Set("OpenStack-API-Version", service+" "+version)
	}
	res, err := http.DefaultClient.Do(req)
	try.Must(c.t, err)
	answer, err := io.ReadAll(res.Body)
	try.Must(c.t, err)
	try.Must(c.t, res.Body.Close())
	if res.StatusCode >= 400 {
		c.t.Fatalf("%s %s: status %d: %s\n%s", method, at, res.StatusCode, answer, c.Said())
	}
	if v != nil {
		try.Must(c.t, json.Unmarshal(answer, v))
	}
	return res.Header
}

type object = map[string]any

func (c *Cloud) login() {
	c.t.Helper()
	named := object{"name": "Default"}
	auth := object{"identity": object{"methods": []string{"password"},
		"password": object{"user": object{"name": keystoneName, "domain": named, "password": keystonePassword}}},
		"scope": object{"project": object{"name": keystoneName, "domain": named}}}
	var got struct {
		Token struct {
			Project struct {
				ID string `json:"id"`
			} `json:"project"`
		} `json:"token"`
	}
	c.token = c.Call("POST", "identity", "/auth/tokens", "", object{"auth": auth}, &got).Get("X-Subject-Token")
	c.project = got.Token.Project.ID
}

func (c *Cloud) seed() {
	c.t.Helper()
	for name, ram := range map[string]int{Small: 64, Large: 128} {
		c.Call("POST", "compute", "/flavors", "", object{"flavor": object{"name": name, "id": name, "ram": ram, "vcpus": 1, "disk": 1}}, nil)
	}
	var image struct {
		ID string `json:"id"`
	}
	c.Call("POST", "image", "/images", "", object{"name": "image", "disk_format": "raw", "container_format": "bare"}, &image)
	c.Call("PUT", "image", "/images/"+image.ID+"/file", "", []byte("a disk"), nil)
	var network struct {
		Network struct {
			ID string `json:"id"`
		} `json:"network"`
	}
	c.Call("POST", "network", "/networks", "", object{"network": object{"name": "net"}}, &network)
	c.Call("POST", "network", "/subnets", "", object{"subnet": object{"network_id": network.Network.ID,
		"cidr": "10.1.0.0/24", "ip_version": 4}}, nil)
	c.Image, c.Network = image.ID, network.Network.ID
}

// Breaks has guests that are made from here on lack what they get by their network, "dhcp" or "metadata".
func (c *Cloud) Breaks(what string) {
	try.Must(c.t, os.WriteFile(c.file("no-"+what), nil, 0o600))
}

// Mends takes back what Breaks did.
func (c *Cloud) Mends(what string) { try.Must(c.t, os.Remove(c.file("no-"+what))) }

// Guest makes a server on the first host, waits until it runs, and returns its ID.
func (c *Cloud) Guest(name string) string {
	c.t.Helper()
	var got struct {
		Server struct {
			ID     string `json:"id"`
			Status string `json:"status"`
		} `json:"server"`
	}
	want := object{"name": name, "imageRef": c.Image, "flavorRef": Small, "networks": []object{{"uuid": c.Network}}, "host": Hosts[0]}
	c.Call("POST", "compute", "/servers", "2.74", object{"server": want}, &got)
	id := got.Server.ID
	for end := time.Now().Add(patience); got.Server.Status != "ACTIVE"; time.Sleep(500 * time.Millisecond) {
		if got.Server.Status == "ERROR" || time.Now().After(end) {
			c.t.Fatalf("guest %s: its status is %s\n%s", name, got.Server.Status, c.Said())
		}
		c.Call("GET", "compute", "/servers/"+id, "", nil, &got)
	}
	return id
}
