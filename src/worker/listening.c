/*-------------------------------------------------------------------------
 *
 * listening.c
 *	  What all ports have in common: TLS, limits of connections, and the
 *	  headers that go with every answer.
 *
 * A process has one certificate for all its ports.  It is read when the first
 * port that needs it is opened, and again with the settings; files that cannot
 * be used then change nothing, and the log says why.  A port for which TLS is
 * asked for never speaks without.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <sys/resource.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/varlena.h"
#include "worker/cors.h"
#include "worker/credentials.h"
#include "worker/listening.h"
#include "worker/process.h"

/* Descriptors of a process besides its connections: files, queues, the log. */
#define OTHER_DESCRIPTORS 256

int          tempo_max_connections = 10000;
static int   tempo_api_max_connections = 1000;
static char *tempo_tls;
static char *tempo_tls_cert_file;
static char *tempo_tls_key_file;
static char *tempo_tls_client_ca_file;
static int   tempo_tls_min_protocol_version;
static int   tempo_client_timeout = 30000;
static int   tempo_idle_timeout = 120000;

/* The names of ports in tempo_pg.tls. */
static const char *const port_names[] = {
	"api", "otlp_grpc", "otlp_http", "zipkin", "jaeger_grpc", "jaeger_http"};

enum
{
	TLS_1_2,
	TLS_1_3
};

static const struct config_enum_entry tls_versions[] = {
	{"TLSv1.2", TLS_1_2, false},
	{"TLSv1.3", TLS_1_3, false},
	{NULL, 0, false}};

static NetTls *tls;
static uint64  applied;

/* --------------------------------------------------------------- settings */

static bool
is_port_name(const char *name)
{
	for (int i = 0; i < lengthof(port_names); i++)
		if (strcmp(name, port_names[i]) == 0)
			return true;
	return false;
}

static bool
check_tls(char **value, void **extra, GucSource source)
{
	char     *copy = pstrdup(*value);
	List     *names;
	ListCell *cell;

	if (!SplitIdentifierString(copy, ',', &names))
	{
		GUC_check_errdetail("List syntax is invalid.");
		return false;
	}
	foreach (cell, names)
	{
		const char *name = lfirst(cell);
		bool        alone = list_length(names) == 1 && (strcmp(name, "on") == 0 || strcmp(name, "off") == 0);

		if (!alone && !is_port_name(name))
		{
			GUC_check_errdetail("\"%s\" is not a port; \"off\", \"on\", or a list of api, otlp_grpc, otlp_http, zipkin, jaeger_grpc, jaeger_http is expected.", name);
			return false;
		}
	}
	list_free(names);
	return true;
}

static void
define_tls(void)
{
	DefineCustomStringVariable("tempo_pg.tls",
	                           "Ports that speak TLS: \"off\", \"on\" for all, or a list.",
	                           "Names in the list are api, otlp_grpc, otlp_http, zipkin, jaeger_grpc and jaeger_http.",
	                           &tempo_tls, "off", PGC_SIGHUP, GUC_LIST_INPUT, check_tls, NULL, NULL);
	DefineCustomStringVariable("tempo_pg.tls_cert_file",
	                           "Certificate of the ports that speak TLS, with the chain, in PEM.",
	                           "Relative to the data directory.",
	                           &tempo_tls_cert_file, "server.crt", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("tempo_pg.tls_key_file",
	                           "Private key of that certificate, in PEM and without a passphrase.",
	                           "Others than the user of the server must not have access to it.",
	                           &tempo_tls_key_file, "server.key", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("tempo_pg.tls_client_ca_file",
	                           "Authorities, in PEM, one of which must have signed the certificate of a client.",
	                           "Empty means that clients need no certificate.",
	                           &tempo_tls_client_ca_file, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("tempo_pg.tls_min_protocol_version",
	                         "Oldest version of TLS that is spoken.",
	                         NULL, &tempo_tls_min_protocol_version, TLS_1_2, tls_versions,
	                         PGC_SIGHUP, 0, NULL, NULL, NULL);
}

void
listening_init(void)
{
	GucContext start = process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP;

	define_tls();
	credentials_init();
	cors_init();
	DefineCustomIntVariable("tempo_pg.max_connections",
	                        "Largest number of connections to a port for spans in one process.",
	                        "Clients beyond it are told to come later.",
	                        &tempo_max_connections, 10000, 1, 1000000, start, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.api_max_connections",
	                        "Largest number of connections to the Tempo API.",
	                        "One that was used takes half a megabyte, since queries may be long.",
	                        &tempo_api_max_connections, 1000, 1, 1000000, start, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.client_timeout",
	                        "How long a client may stand still in the middle of a request or of an answer.",
	                        NULL, &tempo_client_timeout, 30000, 1000, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("tempo_pg.idle_timeout",
	                        "How long a connection to the Tempo API may be idle between two requests; 0 means for ever.",
	                        "Connections with spans may always be.",
	                        &tempo_idle_timeout, 120000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* -------------------------------------------------------------------- TLS */

static bool
wants_tls(const char *name)
{
	char     *copy = pstrdup(tempo_tls);
	List     *names;
	ListCell *cell;
	bool      wanted = false;

	if (SplitIdentifierString(copy, ',', &names))
	{
		foreach (cell, names)
			wanted |= strcmp(lfirst(cell), "on") == 0 || strcmp(lfirst(cell), name) == 0;
		list_free(names);
	}
	pfree(copy);
	return wanted;
}

static bool
is_off(void)
{
	for (int i = 0; i < lengthof(port_names); i++)
		if (wants_tls(port_names[i]))
			return false;
	return true;
}

/* Reads the files; keeps what there was if they cannot be used. */
static bool
load_tls(char *message, Size len)
{
	NetTlsOptions options;
	NetTls       *loaded;

	memset(&options, 0, sizeof(options));
	options.cert_file = tempo_tls_cert_file;
	options.key_file = tempo_tls_key_file;
	options.client_ca_file = tempo_tls_client_ca_file;
	options.tls13_only = tempo_tls_min_protocol_version == TLS_1_3;
	loaded = net_tls_create(&options, message, len);
	if (loaded == NULL)
		return false;
	net_tls_free(tls);
	tls = loaded;
	return true;
}

/* Idle connections cost a client of the API nothing to lose; exporters are silent for minutes. */
static int
idle_timeout(const char *name)
{
	return strcmp(name, "api") == 0 ? tempo_idle_timeout : 0;
}

/* What goes with every answer. */
static int
headers(const NetRequest *request, int status, NetHeader *out, void *arg)
{
	int n = cors_headers(request, out);

	if (status == 401 && tempo_authentication != 0)
		out[n++] = (NetHeader){"www-authenticate", credentials_challenge()};
	return n;
}

bool
listening_options(NetServerOptions *options, const char *name, char *message, Size len)
{
	options->max_connections = strcmp(name, "api") == 0 ? tempo_api_max_connections : tempo_max_connections;
	options->idle_timeout_ms = idle_timeout(name);
	options->stall_timeout_ms = tempo_client_timeout;
	options->tls = NULL;
	options->headers = headers;
	if (!wants_tls(name))
		return true;
	if (tls == NULL && !load_tls(message, len))
		return false;
	options->tls = tls;
	return true;
}

bool
listening_reread(void)
{
	char message[512];

	if (applied == process_settings_read)
		return false;
	applied = process_settings_read;
	if (!is_off() && !load_tls(message, sizeof(message)))
		ereport(LOG,
		        (errcode(ERRCODE_CONFIG_FILE_ERROR),
		         errmsg("TLS of tempo_pg was not reloaded: %s", message)));
	return true;
}

void
listening_apply(NetServer *server, const char *name)
{
	net_server_set_limits(server, idle_timeout(name), tempo_client_timeout);
	if (!wants_tls(name))
		net_server_set_tls(server, NULL);
	else if (tls != NULL)
		net_server_set_tls(server, tls);
}

/* ------------------------------------------------------------ descriptors */

/*
 * A connection has one descriptor, and three if HTTP/1.1 is spoken over TLS.
 */
void
listening_reserve(int ports)
{
	struct rlimit limit;
	rlim_t        wanted = (rlim_t) Max(tempo_max_connections, tempo_api_max_connections) * ports * (is_off() ? 1 : 3) + OTHER_DESCRIPTORS;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= wanted)
		return;
	if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max >= wanted)
		limit.rlim_cur = wanted;
	else
		limit.rlim_cur = limit.rlim_max;
	(void) setrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < wanted)
		ereport(LOG,
		        (errmsg("tempo_pg can have %llu open files in a process, but tempo_pg.max_connections needs %llu",
		                (unsigned long long) limit.rlim_cur, (unsigned long long) wanted),
		         errhint("Raise the limit of open files (ulimit -n, LimitNOFILE=) or lower tempo_pg.max_connections.")));
}
