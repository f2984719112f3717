package rest

import (
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/server"
)

// route is a resource with a verb, and the procedure that it calls.
type route struct {
	procedure string
	method    string // of HTTP
	path      string // with {fields} of the request
	body      string // field of the request that the body is; "*": all that are not in the path; "": there is none
	answer    string // field of the response that the answer is; "": all of it
}

// root is where the resources are.
const root = "/api/v1"

// routes are all, in the order of the document.
var routes = []route{
	{apiv1connect.ClusterServiceGetVersionProcedure, "GET", "/version", "", ""},

	{apiv1connect.ClusterServiceGetStatusProcedure, "GET", "/status", "", "status"},
	{apiv1connect.ClusterServiceWatchStatusProcedure, "GET", "/status:watch", "", "status"},
	{apiv1connect.ClusterServiceListEventsProcedure, "GET", "/events", "", ""},
	{apiv1connect.ClusterServiceWatchEventsProcedure, "GET", "/events:watch", "", ""},

	{apiv1connect.ClusterServiceStartProcedure, "POST", "/management-vm:start", "*", ""},
	{apiv1connect.ClusterServiceStopProcedure, "POST", "/management-vm:stop", "*", ""},
	{apiv1connect.ClusterServiceMigrateProcedure, "POST", "/management-vm:migrate", "*", ""},
	{apiv1connect.ClusterServiceCancelMigrationProcedure, "POST", "/management-vm:cancelMigration", "*", ""},
	{apiv1connect.ClusterServiceResetPasswordProcedure, "POST", "/management-vm:resetPassword", "*", ""},

	{apiv1connect.JobServiceListHostsProcedure, "GET", "/hosts", "", ""},
	{apiv1connect.JobServiceForgetHostProcedure, "DELETE", "/hosts/{host}", "", ""},
	{apiv1connect.ClusterServiceSetMaintenanceProcedure, "PUT", "/hosts/{host}/maintenance", "*", ""},
	{apiv1connect.ClusterServiceConfirmOffProcedure, "POST", "/hosts/{host}:confirmOff", "*", ""},
	{apiv1connect.JobServiceDrainHostProcedure, "POST", "/hosts/{host}:drain", "*", "job"},
	{apiv1connect.JobServiceGetHostPortsProcedure, "GET", "/hosts/{host}/ports", "", ""},
	{apiv1connect.JobServiceCompareFilesProcedure, "POST", "/hosts/{host}/files:compare", "*", ""},
	{apiv1connect.ClusterServiceRenewCertificatesProcedure, "POST", "/hosts/{host}/certificates:renew", "*", ""},
	{apiv1connect.HostServiceGetHostLogProcedure, "GET", "/hosts/{host}/log", "", "log"},
	{apiv1connect.HostServiceTestFenceProcedure, "POST", "/hosts/{host}/fence:test", "*", "test"},
	{apiv1connect.JobServiceWriteFilesProcedure, "POST", "/files:write", "*", "job"},

	{apiv1connect.JobServiceListGuestsProcedure, "GET", "/guests", "", ""},

	{apiv1connect.JobServiceListJobsProcedure, "GET", "/jobs", "", ""},
	{apiv1connect.JobServiceGetJobProcedure, "GET", "/jobs/{id}", "", "job"},
	{apiv1connect.JobServiceCommandJobProcedure, "POST", "/jobs/{id}:command", "*", "job"},

	{apiv1connect.UpgradeServiceGetUpgradeProcedure, "GET", "/upgrade", "", "upgrade"},
	{apiv1connect.UpgradeServicePlanUpgradeProcedure, "POST", "/upgrade:plan", "request", "plan"},
	{apiv1connect.UpgradeServiceCheckUpgradeProcedure, "POST", "/upgrade:check", "request", "report"},
	{apiv1connect.UpgradeServiceRunUpgradeProcedure, "POST", "/upgrade:run", "request", ""},
	{apiv1connect.UpgradeServiceReportUpgradeProcedure, "POST", "/upgrade:report", "*", "report"},
	{apiv1connect.UpgradeServiceAdmitHostProcedure, "POST", "/upgrade/hosts/{host}:admit", "*", ""},

	{apiv1connect.JobServiceGetStepOutputProcedure, "GET", "/jobs/{job}/output", "", ""},

	{apiv1connect.JobServiceRunTransitionProcedure, "POST", "/transitions", "*", "job"},
	{apiv1connect.JobServicePlanTransitionProcedure, "POST", "/transitions:plan", "*", ""},
	{apiv1connect.JobServiceListSitesProcedure, "GET", "/sites", "", ""},

	{apiv1connect.PairServiceGetPairProcedure, "GET", "/pair", "", "pair"},
	{apiv1connect.PairServiceBeginPairProcedure, "POST", "/pair:begin", "*", ""},
	{apiv1connect.PairServiceResolvePairProcedure, "POST", "/pair:resolve", "*", ""},
	{apiv1connect.PairServiceAddPartitionProcedure, "POST", "/pair/partitions", "*", ""},
	{apiv1connect.PairServiceRemovePartitionProcedure, "DELETE", "/pair/partitions/{name}", "", ""},

	{apiv1connect.ClusterServiceGetStoreStatusProcedure, "GET", "/store", "", ""},
	{apiv1connect.ClusterServiceBackUpStoreProcedure, "POST", "/store:backUp", "*", "backup"},

	{apiv1connect.ClusterServiceGetConfigProcedure, "GET", "/config", "", "revision"},
	{apiv1connect.ClusterServiceImportConfigProcedure, "PUT", "/config", "*", ""},
	{apiv1connect.ClusterServiceListConfigsProcedure, "GET", "/configs", "", ""},
	{apiv1connect.ClusterServiceGetConfigProcedure, "GET", "/configs/{number}", "", "revision"},

	{apiv1connect.AccessServiceListUsersProcedure, "GET", "/users", "", ""},
	{apiv1connect.AccessServiceSetUserProcedure, "PUT", "/users/{name}", "*", ""},
	{apiv1connect.AccessServiceRemoveUserProcedure, "DELETE", "/users/{name}", "", ""},
	{apiv1connect.AccessServiceListTokensProcedure, "GET", "/tokens", "", ""},
	{apiv1connect.AccessServiceCreateTokenProcedure, "POST", "/tokens", "*", ""},
	{apiv1connect.AccessServiceRevokeTokenProcedure, "DELETE", "/tokens/{id}", "", ""},

	{apiv1connect.NotificationServiceListNotificationsProcedure, "GET", "/notifications", "", ""},
	{apiv1connect.NotificationServiceTestNotificationProcedure, "POST", "/notifications/{name}:test", "*", ""},
}

// without says why a procedure that users may call has no resource.
var without = map[string]string{
	apiv1connect.ScreenServiceOpenScreenProcedure: "a screen is bytes in both directions at once, which REST does not have: the console shows it",
	apiv1connect.UpgradeServicePutBundleProcedure: "a bundle has gigabytes, and goes in chunks with its keys: holdfast upgrade run sends it",
	apiv1connect.HostServiceGetReportProcedure:    "an archive goes in chunks: holdfast report writes it, and a page of the console",
}

// files have the services that have resources.
var files = slices.DeleteFunc(slices.Clone(api.Files),
	func(f protoreflect.FileDescriptor) bool { return f == apiv1.File_agent_proto })

// methods are all procedures of these services.
func methods() map[string]protoreflect.MethodDescriptor {
	out := map[string]protoreflect.MethodDescriptor{}
	for _, f := range files {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				out["/"+string(s.FullName())+"/"+string(m.Name())] = m
			}
		}
	}
	return out
}

// rule is how vanguard takes a route.
func (r route) rule() *annotations.HttpRule {
	out := &annotations.HttpRule{Body: r.body, ResponseBody: r.answer,
		Selector: strings.ReplaceAll(strings.TrimPrefix(r.procedure, "/"), "/", ".")}
	path := root + r.path
	switch r.method {
	case "GET":
		out.Pattern = &annotations.HttpRule_Get{Get: path}
	case "PUT":
		out.Pattern = &annotations.HttpRule_Put{Put: path}
	case "POST":
		out.Pattern = &annotations.HttpRule_Post{Post: path}
	case "DELETE":
		out.Pattern = &annotations.HttpRule_Delete{Delete: path}
	}
	return out
}

// Resource is a line of the table of what there is.
type Resource struct {
	Method, Path string
	Role         string // the least that may
	Text         string // what it does
}

// Resources are all, in the order of the document.
func Resources() []Resource {
	var out []Resource
	all := methods()
	for _, r := range routes {
		role, _ := server.LeastRole(r.procedure)
		text, _, _ := strings.Cut(about(all[r.procedure]), ". ")
		out = append(out, Resource{r.method, root + r.path, string(role), strings.TrimSuffix(text, ".")})
	}
	return out
}

// inPath are the fields of a request that a path has.
func (r route) inPath() []string {
	var out []string
	for rest := r.path; ; {
		_, after, found := strings.Cut(rest, "{")
		if !found {
			return out
		}
		field, end, _ := strings.Cut(after, "}")
		out, rest = append(out, field), end
	}
}

// inQuery are the fields of a request that stand in the query.
func (r route) inQuery(m protoreflect.MethodDescriptor) []protoreflect.FieldDescriptor {
	if r.body == "*" {
		return nil
	}
	var out []protoreflect.FieldDescriptor
	fields := m.Input().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if name := string(f.Name()); name != r.body && name != keyField && !slices.Contains(r.inPath(), name) {
			out = append(out, f)
		}
	}
	return out
}
