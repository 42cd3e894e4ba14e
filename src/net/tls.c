/*-------------------------------------------------------------------------
 *
 * tls.c
 *	  TLS by OpenSSL: certificates, handshakes, and plain bytes for http1.c.
 *
 * HTTP/2 reads and writes through a NetSocket, which knows TLS.  libmicrohttpd
 * wants a socket of its own: it gets one end of a socketpair, and a relay
 * moves bytes between the other end and the peer.  Which of the two it is says
 * ALPN, or the first decrypted bytes where the peer does not offer it.
 *
 * No call blocks, and a connection holds at most RELAY_BYTES in each direction
 * besides what OpenSSL needs for a record.
 *
 *-------------------------------------------------------------------------
 */
#include "net/internal.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RELAY_BYTES (64 * 1024)
#define RELAY_ROUNDS 8 /* then the others have their turn */

/* ------------------------------------------------------------ certificates */

struct NetTls
{
	SSL_CTX *context;
};

/* explain: what OpenSSL says, or the system where it says nothing */
static void
explain(char *message, size_t len, const char *what, const char *file)
{
	unsigned long code = ERR_get_error();
	const char   *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

	/* of a system error OpenSSL 3 knows the number only */
	if (code != 0 && reason == NULL && ERR_SYSTEM_ERROR(code))
		reason = strerror(ERR_GET_REASON(code));
	snprintf(message, len, "could not %s \"%s\": %s", what, file, reason != NULL ? reason : "unknown error");
	ERR_clear_error();
}

/*
 * key_is_private: the rule PostgreSQL has for its own key: owned by us and
 * closed to all others, or owned by root and open to a group at most.
 */
static bool
key_is_private(const char *file, char *message, size_t len)
{
	struct stat status;

	if (stat(file, &status) != 0)
		snprintf(message, len, "could not access private key file \"%s\": %s", file, strerror(errno));
	else if (!S_ISREG(status.st_mode))
		snprintf(message, len, "private key file \"%s\" is not a regular file", file);
	else if (status.st_uid != geteuid() && status.st_uid != 0)
		snprintf(message, len, "private key file \"%s\" must be owned by the user of the server or root", file);
	else if ((status.st_uid == geteuid() && status.st_uid != 0 && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) ||
	         (status.st_uid == 0 && (status.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0))
		snprintf(message, len, "private key file \"%s\" has group or world access: it must have permissions u=rw (0600) or less if owned by the user of the server, or u=rw,g=r (0640) or less if owned by root", file);
	else
		return true;
	return false;
}

/* no_passphrase: a server has no terminal to ask at */
static int
no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void) buf;
	(void) size;
	(void) rwflag;
	(void) arg;
	return 0;
}

/* choose_protocol: HTTP/2 before HTTP/1.1, of what the port speaks and the peer offers */
static int
choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *outlen,
                const unsigned char *offered, unsigned int len, void *arg)
{
	const NetServer *server = SSL_get_app_data(ssl);
	const struct
	{
		const char *name;
		bool        spoken;
	} ours[] = {{"h2", server->options.http2}, {"http/1.1", server->options.http1}};

	(void) arg;
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		for (unsigned int at = 0; ours[i].spoken && at < len && offered[at] < len - at; at += offered[at] + 1)
			if (offered[at] == strlen(ours[i].name) && memcmp(offered + at + 1, ours[i].name, offered[at]) == 0)
			{
				*out = offered + at + 1;
				*outlen = offered[at];
				return SSL_TLSEXT_ERR_OK;
			}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool
load_files(SSL_CTX *context, const NetTlsOptions *options, char *message, size_t len)
{
	if (SSL_CTX_use_certificate_chain_file(context, options->cert_file) != 1)
		explain(message, len, "load certificate file", options->cert_file);
	else if (!key_is_private(options->key_file, message, len))
		return false;
	else if (SSL_CTX_use_PrivateKey_file(context, options->key_file, SSL_FILETYPE_PEM) != 1)
		explain(message, len, "load private key file", options->key_file);
	else if (SSL_CTX_check_private_key(context) != 1)
		explain(message, len, "use with its certificate the private key file", options->key_file);
	else if (options->client_ca_file != NULL && options->client_ca_file[0] != '\0')
	{
		STACK_OF(X509_NAME) * names;

		if (SSL_CTX_load_verify_locations(context, options->client_ca_file, NULL) != 1 ||
		    (names = SSL_load_client_CA_file(options->client_ca_file)) == NULL)
		{
			explain(message, len, "load client certificate authorities file", options->client_ca_file);
			return false;
		}
		SSL_CTX_set_client_CA_list(context, names);
		SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		return true;
	}
	else
		return true;
	return false;
}

NetTls *
net_tls_create(const NetTlsOptions *options, char *message, size_t messagelen)
{
	NetTls *tls = calloc(1, sizeof(NetTls));

	ERR_clear_error();
	if (tls != NULL)
		tls->context = SSL_CTX_new(TLS_server_method());
	if (tls == NULL || tls->context == NULL)
	{
		snprintf(message, messagelen, "out of memory");
		free(tls);
		return NULL;
	}
	SSL_CTX_set_default_passwd_cb(tls->context, no_passphrase);
	SSL_CTX_set_min_proto_version(tls->context, options->tls13_only ? TLS1_3_VERSION : TLS1_2_VERSION);
	SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
	                                   SSL_MODE_RELEASE_BUFFERS);
	/* a session resumed would be one whose certificate is not looked at again */
	SSL_CTX_set_options(tls->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
	                                      SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(tls->context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(tls->context, 0);
	SSL_CTX_set_alpn_select_cb(tls->context, choose_protocol, NULL);
	if (load_files(tls->context, options, message, messagelen))
		return tls;
	net_tls_free(tls);
	return NULL;
}

void
net_tls_free(NetTls *tls)
{
	if (tls == NULL)
		return;
	/* connections have their own reference */
	SSL_CTX_free(tls->context);
	free(tls);
}

/* ---------------------------------------------------------------- sockets */

/* OpenSSL's own socket BIO writes without MSG_NOSIGNAL. */
static int
bio_write(BIO *bio, const char *data, int len)
{
	ssize_t n = send((int) (intptr_t) BIO_get_data(bio), data, len, MSG_NOSIGNAL);

	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		BIO_set_retry_write(bio);
	return (int) n;
}

static int
bio_read(BIO *bio, char *data, int len)
{
	ssize_t n = recv((int) (intptr_t) BIO_get_data(bio), data, len, 0);

	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		BIO_set_retry_read(bio);
	return (int) n;
}

static long
bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void) bio;
	(void) number;
	(void) pointer;
	return command == BIO_CTRL_FLUSH;
}

static const BIO_METHOD *
bio_method(void)
{
	static BIO_METHOD *method;

	if (method == NULL)
	{
		method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tempo_pg socket");
		if (method != NULL)
		{
			BIO_meth_set_write(method, bio_write);
			BIO_meth_set_read(method, bio_read);
			BIO_meth_set_ctrl(method, bio_ctrl);
		}
	}
	return method;
}

static SSL *
ssl_create(NetServer *server, int fd)
{
	const BIO_METHOD *method = bio_method();
	SSL              *ssl = SSL_new(server->tls->context);
	BIO              *bio = method != NULL ? BIO_new(method) : NULL;

	if (ssl == NULL || bio == NULL)
	{
		SSL_free(ssl);
		BIO_free(bio);
		return NULL;
	}
	BIO_set_data(bio, (void *) (intptr_t) fd);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio);
	SSL_set_app_data(ssl, server);
	SSL_set_accept_state(ssl);
	return ssl;
}

/* failed: what a call that returned "rc" means; sets errno as recv and send do, 0 = end of input */
static ssize_t
failed(NetSocket *sock, int rc)
{
	switch (SSL_get_error(sock->ssl, rc))
	{
		case SSL_ERROR_WANT_WRITE:
			sock->wants_write = true;
			errno = EAGAIN;
			return -1;
		case SSL_ERROR_WANT_READ:
			errno = EAGAIN;
			return -1;
		case SSL_ERROR_ZERO_RETURN:
			return 0;
		default:
			ERR_clear_error();
			errno = ECONNRESET;
			return -1;
	}
}

/*
 * net_tls_read: reads until "len" or until there is no more now, so that a
 * short read tells of a drained socket as it does with recv.
 */
ssize_t
net_tls_read(NetSocket *sock, void *data, size_t len)
{
	size_t got = 0;

	sock->wants_write = false;
	while (got < len)
	{
		int     rc;
		ssize_t result;

		ERR_clear_error();
		rc = SSL_read(sock->ssl, (char *) data + got, len - got > INT_MAX ? INT_MAX : (int) (len - got));
		if (rc > 0)
		{
			got += rc;
			continue;
		}
		result = failed(sock, rc);
		/* an end or an error comes again */
		return got > 0 ? (ssize_t) got : result;
	}
	return got;
}

ssize_t
net_tls_write(NetSocket *sock, const void *data, size_t len)
{
	int rc;

	if (len == 0)
		return 0;
	ERR_clear_error();
	rc = SSL_write(sock->ssl, data, len > INT_MAX ? INT_MAX : (int) len);
	if (rc > 0)
	{
		sock->wants_write = false;
		return rc;
	}
	if (failed(sock, rc) == 0)
		errno = EPIPE;
	return -1;
}

bool
net_tls_pending(const NetSocket *sock)
{
	return SSL_pending(sock->ssl) > 0;
}

void
net_socket_end_tls(NetSocket *sock, bool say_so)
{
	if (sock->ssl == NULL)
		return;
	ERR_clear_error();
	/* not in the middle of a record that the socket did not take */
	if (say_so)
		(void) SSL_shutdown(sock->ssl);
	ERR_clear_error();
	SSL_free(sock->ssl);
	sock->ssl = NULL;
}

/* ------------------------------------------------------------------ relay */

typedef struct Relay
{
	NetNode    node;
	NetServer *server;
	NetSocket  outer; /* to the peer */
	NetWatch  *outer_watch;
	int        inner; /* to libmicrohttpd */
	NetWatch  *inner_watch;
	NetPending pending;
	NetBuffer  to_inner;
	NetBuffer  to_outer;
	uint64_t   progress; /* when the peer last took something */
	bool       input_over;
	bool       output_over;
	bool       dead;
} Relay;

static void
relay_free(Relay *relay, bool linger)
{
	NetServer *server = relay->server;

	net_list_remove(&relay->node);
	net_pending_remove(&relay->pending);
	server->relays--;
	net_watch_close(relay->outer_watch);
	net_watch_close(relay->inner_watch);
	close(relay->inner);
	net_socket_end_tls(&relay->outer, linger);
	net_buffer_free(&relay->to_inner);
	net_buffer_free(&relay->to_outer);
	if (linger && !server->destroying)
		net_linger(server->loop, relay->outer.fd);
	else
		close(relay->outer.fd);
	free(relay);
}

/* keep: what the other side did not take */
static void
keep(Relay *relay, NetBuffer *buffer, const char *data, size_t len)
{
	if (len > 0 && !net_buffer_append(buffer, data, len))
		relay->dead = true;
}

/* relay_inward: one step; false = nothing to be done now */
static bool
relay_inward(Relay *relay)
{
	NetBuffer *buffer = &relay->to_inner;
	char      *scratch = relay->server->loop->scratch;
	ssize_t    n;
	ssize_t    sent;

	if (relay->input_over)
		return false;
	if (buffer->start < buffer->len)
	{
		sent = send(relay->inner, buffer->data + buffer->start, buffer->len - buffer->start, MSG_NOSIGNAL);
		if (sent < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		if (sent < 0)
			relay->input_over = true;
		else
			buffer->start += sent;
		if (buffer->start == buffer->len || sent < 0)
			net_buffer_free(buffer);
		return true;
	}
	n = net_socket_read(&relay->outer, scratch, RELAY_BYTES);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
	{
		/* gone, or only done with sending */
		relay->input_over = true;
		if (n < 0)
			relay->dead = true;
		else
			shutdown(relay->inner, SHUT_WR);
		return false;
	}
	sent = send(relay->inner, scratch, n, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		relay->input_over = true;
	else
		keep(relay, buffer, scratch + (sent > 0 ? sent : 0), n - (sent > 0 ? sent : 0));
	return true;
}

static bool
relay_outward(Relay *relay)
{
	NetBuffer *buffer = &relay->to_outer;
	char      *scratch = relay->server->loop->scratch;
	ssize_t    n;
	ssize_t    written;

	if (buffer->start < buffer->len)
	{
		written = net_socket_write(&relay->outer, buffer->data + buffer->start, buffer->len - buffer->start);
		if (written < 0)
		{
			relay->dead = errno != EAGAIN && errno != EINTR;
			return false;
		}
		relay->progress = net_now(relay->server);
		buffer->start += written;
		if (buffer->start == buffer->len)
			net_buffer_free(buffer);
		return true;
	}
	if (relay->output_over)
		return false;
	n = recv(relay->inner, scratch, RELAY_BYTES, 0);
	/* the end was closed with bytes unread; what it wrote is there all the same */
	if (n < 0 && errno == ECONNRESET)
		n = recv(relay->inner, scratch, RELAY_BYTES, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
	{
		relay->output_over = true;
		return false;
	}
	relay->progress = net_now(relay->server);
	written = net_socket_write(&relay->outer, scratch, n);
	if (written < 0 && errno != EAGAIN && errno != EINTR)
		relay->dead = true;
	else
		keep(relay, buffer, scratch + (written > 0 ? written : 0), n - (written > 0 ? written : 0));
	return true;
}

static void
relay_run(Relay *relay)
{
	bool again = true;
	bool in_held;
	bool out_held;

	for (int i = 0; i < RELAY_ROUNDS && again && !relay->dead; i++)
	{
		again = relay_outward(relay);
		again = (!relay->dead && relay_inward(relay)) || again;
	}
	in_held = relay->to_inner.start < relay->to_inner.len;
	out_held = relay->to_outer.start < relay->to_outer.len;
	if (!relay->dead &&
	    (!net_watch_set(relay->outer_watch, (!relay->input_over && !in_held ? UV_READABLE : 0) |
	                                            (out_held || (relay->outer.wants_write && !relay->input_over && !in_held) ? UV_WRITABLE : 0)) ||
	     !net_watch_set(relay->inner_watch, (!relay->output_over && !out_held ? UV_READABLE : 0) |
	                                            (in_held ? UV_WRITABLE : 0))))
		relay->dead = true;
	if (relay->dead)
		relay_free(relay, false);
	else if (relay->output_over && !out_held)
		relay_free(relay, true);
	else if (again)
		net_pending_add(relay->server->loop, &relay->pending);
}

static void
relay_ready(void *arg, int status, int events)
{
	Relay *relay = arg;

	(void) events;
	if (status < 0)
		relay->dead = true;
	relay_run(relay);
}

static void
relay_pending(NetPending *pending)
{
	relay_run(net_container(Relay, pending, pending));
}

/* relay_start: takes the socket over; the connection is http1.c's then */
static void
relay_start(NetServer *server, NetSocket sock, const struct sockaddr_storage *address, socklen_t addrlen)
{
	Relay *relay = calloc(1, sizeof(Relay));
	int    pair[2] = {-1, -1};

	if (relay != NULL && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0)
	{
		relay->server = server;
		relay->outer = sock;
		relay->inner = pair[0];
		relay->progress = net_now(server);
		net_list_init(&relay->node);
		net_pending_init(&relay->pending, relay_pending);
		relay->outer_watch = net_watch_create(server->loop, sock.fd, relay_ready, relay);
		relay->inner_watch = net_watch_create(server->loop, pair[0], relay_ready, relay);
		server->relays++;
		if (relay->outer_watch != NULL && relay->inner_watch != NULL)
		{
			net_list_push(&server->relaying, &relay->node);
			http1_add(server->http1, pair[1], (const struct sockaddr *) address, addrlen);
			relay_run(relay);
			return;
		}
		close(pair[1]);
		relay_free(relay, false);
	}
	else
	{
		free(relay);
		net_socket_end_tls(&sock, false);
		close(sock.fd);
	}
	net_server_connection_closed(server);
}

/* -------------------------------------------------------------- handshake */

typedef struct Handshake
{
	NetNode                 node;
	NetServer              *server;
	NetSocket               sock;
	NetWatch               *watch;
	uint64_t                since;
	struct sockaddr_storage address;
	socklen_t               addrlen;
} Handshake;

static void
handshake_free(Handshake *handshake)
{
	net_list_remove(&handshake->node);
	net_watch_close(handshake->watch);
	free(handshake);
}

static void
handshake_drop(Handshake *handshake, bool linger)
{
	NetServer *server = handshake->server;
	NetSocket  sock = handshake->sock;

	handshake_free(handshake);
	net_socket_end_tls(&sock, false);
	/* an alert of ours shall be read before a reset */
	if (linger && !server->destroying)
		net_linger(server->loop, sock.fd);
	else
		close(sock.fd);
	net_server_connection_closed(server);
}

/*
 * speaks_http2: 1 yes, 0 no, -1 not known yet, -2 the peer has gone.  Who
 * offers no protocol is known by the first bytes.
 */
static int
speaks_http2(Handshake *handshake)
{
	const unsigned char *name;
	unsigned int         len;
	char                 head[NET_PREFACE_TELLING];
	int                  n;

	SSL_get0_alpn_selected(handshake->sock.ssl, &name, &len);
	if (len > 0)
		return len == 2;
	ERR_clear_error();
	n = SSL_peek(handshake->sock.ssl, head, sizeof(head));
	if (n <= 0)
		return failed(&handshake->sock, n) < 0 && errno == EAGAIN ? -1 : -2;
	return n == sizeof(head) && memcmp(head, NET_PREFACE, n) == 0;
}

static void
handshake_ready(void *arg, int status, int events)
{
	Handshake *handshake = arg;
	NetServer *server = handshake->server;
	NetSocket  sock;
	int        rc;
	int        http2;

	(void) events;
	if (status < 0)
	{
		handshake_drop(handshake, false);
		return;
	}
	handshake->sock.wants_write = false;
	ERR_clear_error();
	rc = SSL_do_handshake(handshake->sock.ssl);
	if (rc != 1)
	{
		if (failed(&handshake->sock, rc) < 0 && errno == EAGAIN &&
		    net_watch_set(handshake->watch, handshake->sock.wants_write ? UV_WRITABLE : UV_READABLE))
			return;
		server->statistics.tls_failures++;
		handshake_drop(handshake, true);
		return;
	}
	http2 = speaks_http2(handshake);
	if (http2 == -1 && net_watch_set(handshake->watch, UV_READABLE))
		return;
	if (http2 < 0 || !(http2 ? server->options.http2 : server->options.http1))
	{
		handshake_drop(handshake, false);
		return;
	}
	sock = handshake->sock;
	if (http2)
	{
		handshake_free(handshake);
		http2_add(server, sock, NULL);
	}
	else
	{
		struct sockaddr_storage address = handshake->address;
		socklen_t               addrlen = handshake->addrlen;

		handshake_free(handshake);
		relay_start(server, sock, &address, addrlen);
	}
}

void
tls_add(NetServer *server, int fd, const struct sockaddr_storage *address, socklen_t addrlen)
{
	Handshake *handshake = calloc(1, sizeof(Handshake));

	if (handshake != NULL)
	{
		net_list_init(&handshake->node);
		handshake->server = server;
		handshake->sock.fd = fd;
		handshake->since = net_now(server);
		handshake->address = *address;
		handshake->addrlen = addrlen;
		handshake->sock.ssl = ssl_create(server, fd);
		handshake->watch = net_watch_create(server->loop, fd, handshake_ready, handshake);
		if (handshake->sock.ssl != NULL && handshake->watch != NULL)
		{
			net_list_push(&server->handshaking, &handshake->node);
			handshake_ready(handshake, 0, UV_READABLE);
			return;
		}
		handshake_drop(handshake, false);
		return;
	}
	close(fd);
	net_server_connection_closed(server);
}

/* ----------------------------------------------------------------- server */

void
net_server_set_tls(NetServer *server, NetTls *tls)
{
	NetTls *old = server->tls;

	server->tls = NULL;
	if (tls != NULL)
	{
		server->tls = calloc(1, sizeof(NetTls));
		/* without memory what was goes on */
		if (server->tls == NULL)
		{
			server->tls = old;
			return;
		}
		SSL_CTX_up_ref(tls->context);
		server->tls->context = tls->context;
	}
	net_tls_free(old);
}

void
tls_sweep(NetServer *server)
{
	uint64_t now = net_now(server);

	for (NetNode *node = server->handshaking.next, *next; node != &server->handshaking; node = next)
	{
		Handshake *handshake = net_container(Handshake, node, node);

		next = node->next;
		if (now - handshake->since > NET_HANDSHAKE_MS)
			handshake_drop(handshake, false);
	}
	for (NetNode *node = server->relaying.next, *next; node != &server->relaying; node = next)
	{
		Relay *relay = net_container(Relay, node, node);

		next = node->next;
		if (relay->to_outer.start < relay->to_outer.len &&
		    now - relay->progress > (uint64_t) server->options.stall_timeout_ms)
			relay_free(relay, false);
	}
}

void
tls_stop(NetServer *server)
{
	while (!net_list_empty(&server->handshaking))
		handshake_drop(net_container(Handshake, node, server->handshaking.next), false);
}

void
tls_destroy_all(NetServer *server)
{
	tls_stop(server);
	while (!net_list_empty(&server->relaying))
		relay_free(net_container(Relay, node, server->relaying.next), false);
	net_tls_free(server->tls);
	server->tls = NULL;
}
