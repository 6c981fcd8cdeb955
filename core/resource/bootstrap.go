package resource

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Defaults of octo.resource.v1.Bootstrap.
const (
	DefaultEnvironment    = "test"
	DefaultDrainDeadline  = 30 * time.Second
	DefaultMaxStreams     = 1024
	DefaultStreamWindow   = 256 << 10
	DefaultMaxFrameBody   = 64 << 10
	DefaultMaxQueuedBytes = 16 << 20

	frameCost = 64 // what a frame costs beside its body, of a stream's credit
)

// Bounds of octo.resource.v1.Bootstrap.
const (
	maxStreams       = 1 << 20
	maxStreamWindow  = 1<<31 - 1
	maxFrameBody     = 16 << 20
	maxQueuedBytes   = 1 << 30
	maxDrainDeadline = time.Hour
	maxSocketPath    = 103 // the kernel takes 107; a socket is made beside its place and then moved there
)

// ReadBootstrap reads the bootstrap file of a program, completes it from the environment variables (getenv is
// os.Getenv, or a test's) and defaults, and checks it. Paths in the result are those of the file made
// relative to the working directory.
func ReadBootstrap(path string, of Program, getenv func(string) string) (*resourcev1.Bootstrap, error) {
	b := &resourcev1.Bootstrap{}
	doc, err := ReadFile(path, b)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	paths := []*string{&b.OutboundSocket, &b.AdminSocket, &b.ResourcesFile, &b.TakeoverSocket}
	if t := b.Tls; t != nil {
		paths = append(paths, &t.CertificateFile, &t.KeyFile, &t.AuthoritiesFile)
	}
	if c := b.Control; c != nil {
		paths = append(paths, &c.Directory)
	}
	if g := b.Grpc; g != nil {
		paths = append(paths, &g.CertificateFile, &g.KeyFile, &g.ClientAuthoritiesFile)
		if t := g.ServerTls; t != nil {
			paths = append(paths, &t.AuthoritiesFile, &t.CertificateFile, &t.KeyFile)
		}
		for _, s := range g.GetServers() {
			absoluteSocket(dir, &s.Address)
		}
		for target, file := range g.GetSchemas() {
			if file != "" && !filepath.IsAbs(file) {
				g.Schemas[target] = filepath.Join(dir, file)
			}
		}
	}
	for _, s := range b.GetKitex().GetServers() {
		absoluteSocket(dir, &s.Address)
	}
	paths = append(paths, telemetryPaths(b.Telemetry)...)
	for i := range b.GetRateLimitServices().GetAddresses() {
		absoluteSocket(dir, &b.RateLimitServices.Addresses[i])
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	return b, doc.LocateError(CompleteBootstrap(b, of, getenv))
}

// absoluteSocket makes the path of an address one that is relative to nothing, if it has one.
func absoluteSocket(dir string, address *string) {
	if path, ok := SocketPath(*address); ok && path != "" && !filepath.IsAbs(path) {
		*address = unixScheme + filepath.Join(dir, path)
	}
}

// CompleteBootstrap fills in what a bootstrap leaves out, and checks it.
func CompleteBootstrap(b *resourcev1.Bootstrap, of Program, getenv func(string) string) error {
	fill(&b.Environment, getenv("OCTO_ENVIRONMENT"), DefaultEnvironment)
	if of = programOf(b, of); of == Sidecar { // a gateway has neither, whatever the variables say to others
		fill(&b.OutboundSocket, getenv("OCTO_SOCKET"))
		fill(&b.AdvertiseAddress, getenv("OCTO_ADVERTISE_ADDRESS"))
	}
	fill(&b.Instance, ProcessName())
	fill(&b.TakeoverSocket, beside(b.AdminSocket), beside(b.OutboundSocket))
	if b.DrainDeadline == nil {
		b.DrainDeadline = durationpb.New(DefaultDrainDeadline)
	}
	if b.Limits == nil {
		b.Limits = &resourcev1.ProxyLimits{}
	}
	l := b.Limits
	fill(&l.MaxStreams, DefaultMaxStreams)
	fill(&l.MaxFrameBody, DefaultMaxFrameBody)
	fill(&l.StreamWindow, max(DefaultStreamWindow, leastWindow(l)))
	fill(&l.MaxQueuedBytes, DefaultMaxQueuedBytes)
	completeTelemetry(b.Telemetry)
	v := &validator{}
	v.bootstrap(b)
	v.program(b, of)
	return Errors(v.problems)
}

// fill sets a value that is absent to the first of some that is not.
func fill[T comparable](v *T, values ...T) {
	var zero T
	for _, other := range values {
		if *v == zero {
			*v = other
		}
	}
}

// takeoverEnding is that of a takeover socket nobody has named.
const takeoverEnding = ".takeover"

// beside is where the takeover socket of another socket's proxy stands; "" if there is no other one, or no room.
func beside(socket string) string {
	path := strings.TrimSuffix(socket, filepath.Ext(socket)) + takeoverEnding
	if socket == "" || len(path) > maxSocketPath {
		return ""
	}
	return path
}

// ProcessName is what a proxy is called whose bootstrap does not say it: the host and the process id.
func ProcessName() string {
	host, err := os.Hostname()
	if err != nil || !nameForm.pattern.MatchString(host) {
		host = "proxy"
	}
	return fmt.Sprintf("%s-%d", host, os.Getpid())
}

func (v *validator) bootstrap(b *resourcev1.Bootstrap) {
	v.name("environment", b.GetEnvironment(), environmentForm)
	v.name("instance", b.GetInstance(), nameForm)
	v.optional("zone", b.GetZone(), nameForm)
	v.socket("outbound_socket", b.GetOutboundSocket())
	v.socket("admin_socket", b.GetAdminSocket())
	v.socket("takeover_socket", b.GetTakeoverSocket())
	if b.GetAdminSocket() != "" && b.GetAdminSocket() == b.GetOutboundSocket() {
		v.bad("admin_socket", "is the outbound socket too")
	}
	if t := b.GetTakeoverSocket(); t != "" && (t == b.GetOutboundSocket() || t == b.GetAdminSocket()) {
		v.bad("takeover_socket", "is the outbound or the admin socket too")
	}
	v.origin(b)
	v.address("inbound_address", b.GetInboundAddress(), true)
	v.address("advertise_address", b.GetAdvertiseAddress(), true) // port 0: the one that was bound
	if strings.HasPrefix(b.GetAdvertiseAddress(), ":") {
		v.bad("advertise_address", "%q has no host", shorten(b.GetAdvertiseAddress()))
	}
	v.duration("drain_deadline", b.GetDrainDeadline(), maxDrainDeadline)
	l := b.GetLimits()
	v.within("limits.max_streams", l.GetMaxStreams(), 1, maxStreams)
	v.within("limits.max_frame_body", l.GetMaxFrameBody(), DefaultMaxFrameBody, maxFrameBody)
	v.within("limits.stream_window", l.GetStreamWindow(), leastWindow(l), maxStreamWindow)
	v.within("limits.max_queued_bytes", l.GetMaxQueuedBytes(), 64<<10, maxQueuedBytes)
	if t := b.GetTls(); t != nil {
		v.present("tls.certificate_file", t.GetCertificateFile())
		v.present("tls.key_file", t.GetKeyFile())
		v.present("tls.authorities_file", t.GetAuthoritiesFile())
	}
	v.grpcBridge(b)
	v.kitexBridge(b)
	v.telemetry(b.GetTelemetry())
	v.rateLimitServices(b.GetRateLimitServices())
	for i, u := range b.GetSocketUsers() {
		for j, a := range u.GetApplications() {
			v.name(fmt.Sprintf("socket_users[%d].applications[%d]", i, j), a, nameForm)
		}
	}
}

// origin checks where the proxy's resources come from.
func (v *validator) origin(b *resourcev1.Bootstrap) {
	c := b.GetControl()
	switch {
	case c == nil && b.GetResourcesFile() == "":
		v.bad("resources_file", "is missing, and so is control")
	case c != nil && b.GetResourcesFile() != "":
		v.bad("resources_file", "stands beside control: resources come from one of them")
	case c != nil && len(c.GetPilots()) == 0:
		v.bad("control.pilots", "is missing")
	}
	for i, address := range c.GetPilots() {
		v.present(fmt.Sprintf("control.pilots[%d]", i), address)
		v.address(fmt.Sprintf("control.pilots[%d]", i), address, false)
	}
	for i, target := range c.GetTargets() {
		v.name(fmt.Sprintf("control.targets[%d]", i), target, nameForm)
	}
}

// leastWindow returns the smallest window that goes with the limits' frames: two of them.
func leastWindow(l *resourcev1.ProxyLimits) uint32 {
	return 2 * (min(max(l.GetMaxFrameBody(), DefaultMaxFrameBody), maxFrameBody) + frameCost)
}

func (v *validator) present(field, value string) {
	if value == "" {
		v.bad(field, "is missing")
	}
}

func (v *validator) within(field string, n, least, most uint32) {
	if n < least || n > most {
		v.bad(field, "%d is not from %d to %d", n, least, most)
	}
}

// unixScheme is what an address begins with that is a Unix socket's.
const unixScheme = "unix:"

// SocketPath returns the path of an address that is a Unix socket's; ok is false for another one.
func SocketPath(address string) (path string, ok bool) { return strings.CutPrefix(address, unixScheme) }

func (v *validator) socket(field, path string) {
	if len(path) > maxSocketPath {
		v.bad(field, "is longer than the %d bytes that a Unix socket's path may have", maxSocketPath)
	}
}

// MayConnect tells whether a process of the uid may use the outbound socket as the application. With no
// socket_users that is every process of the proxy's own uid and of root.
func MayConnect(b *resourcev1.Bootstrap, own, uid uint32, application string) bool {
	if len(b.GetSocketUsers()) == 0 {
		return uid == own || uid == 0
	}
	for _, u := range b.GetSocketUsers() {
		if u.GetUid() == uid && (len(u.GetApplications()) == 0 || slices.Contains(u.GetApplications(), application)) {
			return true
		}
	}
	return false
}
