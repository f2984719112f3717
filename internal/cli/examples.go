package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples are how commands are called, by their words; that of the program itself is "". Help and manual pages
// have them.
var examples = map[string][]string{
	"": {
		"holdfast config sample FileConf -o cluster.json", "holdfast install -c cluster.json --check", "holdfast install -c cluster.json",
		"holdfast status --watch", "holdfast migrate node-2", "holdfast doctor",
	},
	"adopt":                   {"holdfast adopt 'ZStack Management Node VM' -c cluster.json --check"},
	"bundle build":            {"holdfast bundle build platform-1.1 -o platform-1.1.hfb --key release.key"},
	"bundle keygen":           {"holdfast bundle keygen release"},
	"bundle show":             {"holdfast bundle show platform-1.1.hfb"},
	"bundle sign":             {"holdfast bundle sign platform-1.1.hfb --key release.key"},
	"bundle verify":           {"holdfast bundle verify platform-1.1.hfb --key release.pub"},
	"certificates renew":      {"holdfast certificates renew node-1", "holdfast certificates renew --all"},
	"config check":            {"holdfast config check cluster.json"},
	"config diff":             {"holdfast config diff 3 5", "holdfast config diff cluster.json"},
	"config export":           {"holdfast config export cluster.json"},
	"config import":           {"holdfast config import cluster.json --check", "holdfast config import cluster.json"},
	"config sample":           {"holdfast config sample FileConf -o cluster.json"},
	"confirm-off":             {"holdfast confirm-off node-2"},
	"doctor":                  {"holdfast doctor", "holdfast doctor -o json"},
	"events":                  {"holdfast events --since 1h", "holdfast events --follow"},
	"host certificates":       {"holdfast host certificates keys node-4=192.0.2.14"},
	"host drain":              {"holdfast host drain node-2"},
	"host enable":             {"holdfast host enable node-2"},
	"host forget":             {"holdfast host forget node-9"},
	"host maintenance":        {"holdfast host maintenance node-2"},
	"install":                 {"holdfast install -c cluster.json --check", "holdfast install -c cluster.json --ask-password", "holdfast install -c cluster.json --hosts more.txt"},
	"jobs abort":              {"holdfast jobs abort drain-7"},
	"jobs pause":              {"holdfast jobs pause drain-7"},
	"jobs resume":             {"holdfast jobs resume drain-7"},
	"jobs retry":              {"holdfast jobs retry drain-7 node-2/drain"},
	"jobs show":               {"holdfast jobs show drain-7"},
	"jobs skip":               {"holdfast jobs skip drain-7 node-2/drain --reason 'done by hand'"},
	"jobs watch":              {"holdfast jobs watch drain-7"},
	"migrate":                 {"holdfast migrate node-2", "holdfast migrate --cancel"},
	"pair check":              {"holdfast pair check --vip 172.16.60.55/16 --peer 172.16.60.52 --arbiter 172.16.60.53"},
	"pair partition add":      {"holdfast pair partition add templates --disk /dev/sdc"},
	"pair partition remove":   {"holdfast pair partition remove templates"},
	"pair recover":            {"holdfast pair recover 172.16.60.51"},
	"pair resolve":            {"holdfast pair resolve --keep cvm1"},
	"pair setup":              {"holdfast pair setup --vip 172.16.60.55/16 --peer 172.16.60.52 --arbiter 172.16.60.53"},
	"pair size":               {"holdfast pair size --hosts 100 --vms 2000"},
	"pair switch":             {"holdfast pair switch cvm2"},
	"probe":                   {"holdfast probe --targets targets.txt --for 10m"},
	"probe report":            {"holdfast probe report a.json b.json"},
	"report":                  {"holdfast report", "holdfast report --days 2 -O /root/for-support.tar.gz"},
	"status":                  {"holdfast status", "holdfast status --watch", "holdfast status -o json"},
	"stop":                    {"holdfast stop", "holdfast stop --hands-off"},
	"start":                   {"holdfast start"},
	"store join":              {"holdfast store join --move-aside"},
	"store restore":           {"holdfast store restore --move-aside /var/lib/holdfast/backups/newest"},
	"transition config apply": {"holdfast transition config apply site"},
	"transition config back":  {"holdfast transition config back config-20261126-020000-ab12"},
	"transition config diff":  {"holdfast transition config diff site"},
	"simulate":                {"holdfast simulate --runs 3000", "holdfast simulate scenarios/one-way-cut"},
	"transition db clean":     {`holdfast transition db clean --source "$OLD" --target "$NEW"`},
	"transition db plan":      {`holdfast transition db plan --profile openstack-liberty-zed --ids ids --source "$OLD" --target "$NEW"`},
	"transition db run":       {`holdfast transition db run --profile openstack-liberty-zed --ids ids --source "$OLD" --target "$NEW" --follow`},
	"transition db verify":    {`holdfast transition db verify --profile openstack-liberty-zed --ids ids --source "$OLD" --target "$NEW"`},
	"transition features":     {"holdfast transition features --guest test1 --yes --target host2 --out before.json"},
	"transition net apply":    {"holdfast transition net apply --file net.json --endpoint http://127.0.0.1:9697 --db 'holdfast@unix(/run/mysqld/mysqld.sock)/'"},
	"transition net export":   {"holdfast transition net export --endpoint http://127.0.0.1:9696 --out net.json"},
	"transition net host":     {"holdfast transition net host --file net.json"},
	"transition net verify":   {"holdfast transition net verify --file net.json --endpoint http://127.0.0.1:9697"},
	"transition db profile":   {"holdfast transition db profile openstack-liberty-zed"},
	"transition pin":          {"holdfast transition pin br-int"},
	"transition plan":         {"holdfast transition plan transition.yaml"},
	"transition run":          {"holdfast transition run transition.yaml"},
	"transition sites":        {"holdfast transition sites sites.yaml"},
	"transition unpin":        {"holdfast transition unpin br-int"},
	"uninstall":               {"holdfast uninstall --" + sureFlag, "holdfast uninstall --" + sureFlag + " -c cluster.json"},
	"upgrade approve":         {"holdfast upgrade approve node-2"},
	"upgrade check":           {"holdfast upgrade check --bundle platform-1.1.hfb"},
	"upgrade drop":            {"holdfast upgrade drop node-9"},
	"upgrade path":            {"holdfast upgrade path --catalogue builtin:cas --from 2.0 --to E0710"},
	"upgrade plan":            {"holdfast upgrade plan --inventory hosts.json --bundle platform-1.1.hfb"},
	"upgrade retry":           {"holdfast upgrade retry node-2/install/app"},
	"upgrade rollback":        {"holdfast upgrade rollback", "holdfast upgrade rollback node-2"},
	"upgrade run":             {"holdfast upgrade run --bundle platform-1.1.hfb --key release.pub --wait"},
	"upgrade skip":            {"holdfast upgrade skip node-2/install/app --reason 'done by hand'"},
}

// addExamples gives root and the commands below it their examples.
func addExamples(root *cobra.Command) {
	for words, lines := range examples {
		c, _, err := root.Find(strings.Fields(words))
		if err == nil && strings.TrimPrefix(c.CommandPath(), root.Name()) == strings.TrimSuffix(" "+words, " ") { // those of Extra may not be there
			var b strings.Builder
			for _, l := range lines {
				b.WriteString("\n" + continued(l))
			}
			c.Example = b.String()[1:]
		}
	}
}

// continued is an example in lines for a terminal, as a shell reads them.
func continued(line string) string {
	const first, next, end = "  ", "    ", ` \`
	out := first
	for i, w := range strings.Fields(line) {
		switch at := out[strings.LastIndexByte(out, '\n')+1:]; {
		case i == 0:
		case len(at)+1+len(w)+len(end) > width:
			out += end + "\n" + next
		default:
			out += " "
		}
		out += w
	}
	return out
}
