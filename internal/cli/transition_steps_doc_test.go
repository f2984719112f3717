package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/testbed/try"
)

// shell runs a program of a page with doubles of what it calls, which are programs beside it.
func shell(t *testing.T, dir, script string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{filepath.Join(dir, script)}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + dir + "/bin:/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestStepsOfThePage: what docs/transition-steps.md has can be built and run, and run again. rpm and openstack are doubles.
func TestStepsOfThePage(t *testing.T) {
	page := clitest.Blocks(t, "../../docs/transition-steps.md")
	if len(page["yaml"]) != 1 || len(page["sh"]) != 2 {
		t.Fatalf("docs/transition-steps.md has %d and %d blocks: want a bundle and two programs", len(page["yaml"]), len(page["sh"]))
	}
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "tree/manifest.yaml", page["yaml"][0])
	write(t, "tree/base/ctl.sh", page["sh"][0])
	write(t, "tree/base/old.txt", "puppet\npython-six\npython-none\n")
	if s := commandLine(t, "", "bundle", "build", "tree", "-o", "compute.hfb"); s.code != 0 {
		t.Errorf("%d: %s%s", s.code, s.out, s.err)
	}
	const rpm = `#!/bin/sh
case $1 in
-q) for f in have/"$2" have/"$2"-[0-9]*; do [ -e "$f" ] && basename "$f" && exit 0; done; echo "package $2 is not installed"; exit 1 ;;
-e) shift 2; for p; do rm "have/$p" || exit 1; done ;;
-i) touch "have/$(basename "$3" .rpm)" ;;
esac
`
	write(t, "bin/rpm", rpm)
	write(t, "bin/yumdownloader", "#!/bin/sh\n[ -e unreachable ] || touch \"$2/$3.rpm\"\n")
	write(t, "have/puppet-3.8.7-1.noarch", "")
	write(t, "have/python-six-1.9.0-2.noarch", "")
	write(t, "have/python-requests-2.6.0-1.noarch", "")
	for _, p := range []string{"rpm", "yumdownloader"} {
		try.Must(t, os.Chmod("bin/"+p, 0o755))
	}
	has := func() string {
		list, err := os.ReadDir("have")
		try.Must(t, err)
		var out []string
		for _, e := range list {
			out = append(out, e.Name())
		}
		return strings.Join(out, " ")
	}
	before := has()
	write(t, "unreachable", "")
	if out, err := shell(t, dir, "tree/base/ctl.sh", "keep", dir+"/backup"); err == nil ||
		!strings.Contains(out, "puppet-3.8.7-1.noarch can not be kept") || has() != before {
		t.Errorf("what can not be kept: %v %s", err, out)
	}
	try.Must(t, os.Remove("unreachable"))
	for _, step := range []struct{ args, want string }{
		{"look", before}, {"keep", before}, {"keep", before}, {"remove", "python-requests-2.6.0-1.noarch"},
		{"remove", "python-requests-2.6.0-1.noarch"}, {"back", before}, {"back", before},
	} {
		if out, err := shell(t, dir, "tree/base/ctl.sh", step.args, dir+"/backup"); err != nil || has() != step.want {
			t.Errorf("%s: %v %s\nleft %s", step.args, err, out, has())
		}
	}

	// openstack keeps what was made in files; what is written twice is told.
	const openstack = `#!/bin/sh
echo "$*" >> calls
case "$*" in
"flavor show "*) [ -e flavor ] ;;
"flavor create "*) [ ! -e flavor ] && touch flavor ;;
"resource provider list "*) echo p1; echo p2 ;;
"resource provider trait list "*) for h; do :; done; cat "traits-$h" ;;
"resource provider trait set "*) h=$4; shift 4; [ "$1 $2" = "$h --trait" ]; h=$1; : > "traits-$h"; shift; while [ $# -gt 0 ]; do echo "$2" >> "traits-$h"; shift 2; done ;;
"network qos policy show "*) [ -e policy ] ;;
"network qos policy create "*) [ ! -e policy ] && touch policy ;;
"network qos rule list "*) [ ! -e rule ] || cat rule ;;
"network qos rule create "*) echo r1 >> rule ;;
"network show "*) echo "['zone-a']" ;;
esac
`
	write(t, "bin/openstack", openstack)
	try.Must(t, os.Chmod("bin/openstack", 0o755))
	write(t, "openrc", "export OS_AUTH_URL=http://k:5000/v3\n")
	write(t, "new-objects", strings.Replace(page["sh"][1], "/root/new-openrc", dir+"/openrc", 1))
	write(t, "traits-p1", "HW_CPU_X86_AVX\nCOMPUTE_NODE\n")
	write(t, "traits-p2", "CUSTOM_SSD\n")
	for i := range 2 {
		if out, err := shell(t, dir, "new-objects"); err != nil {
			t.Errorf("run %d: %v %s", i, err, out)
		}
	}
	calls, err := os.ReadFile("calls")
	try.Must(t, err)
	for want, times := range map[string]int{`flavor create .*`: 1,
		`resource provider trait set p1 --trait HW_CPU_X86_AVX --trait COMPUTE_NODE --trait CUSTOM_SSD`: 1,
		`resource provider trait set .*`: 1, `network qos policy create 100-mbit`: 1, `network qos rule create .*`: 1,
		`network set .*--tag zone-a net-a`: 2} {
		if n := len(regexp.MustCompile("(?m)^"+want+"$").FindAll(calls, -1)); n != times {
			t.Errorf("%s: %d times, want %d:\n%s", want, n, times, calls)
		}
	}
}
