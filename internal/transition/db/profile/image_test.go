package profile

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// python is Debian's, for which its Nova is installed.
const python = "/usr/bin/python3"

// images are what request specs have of the guests' images: the properties of one that
// asked for much, in part in vain.
var images = [][2]string{
	{properties("hw_numa_nodes", "JSON_TYPE(", ")"), "INTEGER"},
	{properties("hw_numa_nodes", "", ""), "2"},
	{properties("hw_cpu_policy", "", ""), `"dedicated"`},
	{properties("hw_numa_cpus", "", ""), "[[0, 1, 2, 3], [4, 5]]"},
	{properties("hw_numa_mem", "", ""), "[8192, 8192]"},
	{properties("hw_qemu_guest_agent", "", ""), "true"},
	{properties("hw_boot_menu", "", ""), "false"},
	{properties("hw_mem_page_size", "", ""), `"large"`},
	{properties("os_type", "", ""), `"linux"`},
	{properties("os_command_line", "", ""), `"say=\"x\\\\y\""`},
	{properties("hw_architecture", "", ""), `"x86_64"`}, // its new name counts
	{properties("hw_vm_mode", "", ""), `"hvm"`},
	// No number, no such value, no value, no such property, deleted, the owner's.
	{properties("hw_cpu_cores", "", ""), "NULL"},
	{properties("hw_video_model", "", ""), "NULL"},
	{properties("hw_watchdog_action", "", ""), "NULL"},
	{properties("of_our_own", "", ""), "NULL"},
	{properties("hw_rng_model", "", ""), "NULL"},
	{properties("img_owner_id", "", ""), "NULL"},
	{image("disk_format"), `"raw"`},
	{image("min_disk"), "20"},
	{spec(`image."nova_object.data".properties."nova_object.data".hw_vif_model`, "COALESCE(", ", 'none')"), "none\nnone\n\"virtio\"\nnone"},
}

func image(path string) string {
	return "SELECT JSON_EXTRACT(spec, '" + data + `image."nova_object.data".` +
		path + "') FROM {nova_api}.request_specs WHERE instance_uuid = " + db
}

func properties(name, before, after string) string {
	return "SELECT " + before + "JSON_EXTRACT(spec, '" +
		data + `image."nova_object.data".properties."nova_object.data".` + name + "')" +
		after + " FROM {nova_api}.request_specs WHERE instance_uuid = " + db
}

// imagesAreRead has Nova's own objects read the request specs: their images are those
// that it would make of the guests' system metadata.
func (p *platforms) imagesAreRead(t *testing.T) {
	t.Helper()
	ctx := within(t, time.Minute)
	if out, err := exec.CommandContext(ctx, python, "-c", "import nova.version").CombinedOutput(); err != nil {
		t.Skipf("%s has no Nova: %v: %s", python, err, out) // Debian's python3-nova, which drills have
	}
	guests := p.guests(t)
	var in strings.Builder
	for _, g := range guests {
		line, err := json.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(ctx, python, "testdata/image_properties.py")
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if want := fmt.Sprintf("read %d\n", len(guests)); err != nil || string(out) != want || len(guests) == 0 {
		t.Errorf("Nova's objects: %v, %s; want %s", err, out, want)
	}
}

// guest is what testdata/image_properties.py reads.
type guest struct {
	UUID     string            `json:"uuid"`
	Spec     string            `json:"spec"`
	Metadata map[string]string `json:"metadata"`
}

// guests of the new platform, with their live system metadata.
func (p *platforms) guests(t *testing.T) map[string]*guest {
	t.Helper()
	rows, err := p.target.DB.QueryContext(within(t, time.Minute),
		p.to.Fill("SELECT r.instance_uuid, r.spec, COALESCE(m.`key`, ''), COALESCE(m.value, '') FROM {nova_api}.request_specs r "+
			"LEFT JOIN {nova}.instance_system_metadata m ON m.instance_uuid = r.instance_uuid AND m.deleted = 0 AND "+
			"m.value IS NOT NULL ORDER BY m.id"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]*guest{}
	for rows.Next() {
		var uuid, spec, key, value string
		if err := rows.Scan(&uuid, &spec, &key, &value); err != nil {
			t.Fatal(err)
		}
		if out[uuid] == nil {
			out[uuid] = &guest{uuid, spec, map[string]string{}}
		}
		out[uuid].Metadata[key] = value
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
