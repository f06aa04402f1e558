#include "src/config/settings_check.h"

#include <string.h>

#include "src/base/refuse.h"

/* Only the text protocol asks for passwords: in another one a client would get in without. */
static bool check_auth_file(struct settings *settings)
{
    if (!settings->auth_file)
        return true;
    if (strcmp(settings->protocol, "binary") == 0)
        return refuse("-Y is for the text protocol: it excludes -B binary and -S");
    settings->protocol = "ascii";
    return true;
}

static bool wants_certificates(const struct settings *settings)
{
    bool wants = settings->ssl_verify_mode >= SSL_VERIFY_REQUIRED;
    for (int i = 0; i < settings->listen_count; i++)
        wants = wants || strstr(settings->listen[i], "mtls:");
    return settings->enable_ssl && wants;
}

/* The option by which clients must authenticate themselves, or NULL. */
static const char *client_check(const struct settings *settings)
{
    if (settings->auth_file)
        return "-Y";
    if (settings->enable_sasl)
        return "-S";
    return wants_certificates(settings) ? "client certificates (mtls:, ssl_verify_mode)" : NULL;
}

/* A datagram names its sender, but anybody can write any name. */
static bool check_udp(struct settings *settings)
{
    if (settings->udp_port == 0)
        return true;
    const char *excluded = client_check(settings);
    if (excluded)
        return refuse("-U: UDP knows no clients, so it excludes %s", excluded);
    if (settings->unix_path) {
        fprintf(stderr, "warning: -U: no UDP, because -s turns the network off\n");
        settings->udp_port = 0;
    }
    return true;
}

/* The text protocol has no SASL, so -S leaves only the binary one. */
static bool check_sasl(struct settings *settings)
{
    if (!settings->enable_sasl)
        return true;
    if (!settings->built_in.sasl)
        return refuse("-S: this build has no SASL: build it where libsasl2 is installed");
    if (strcmp(settings->protocol, "ascii") == 0)
        return refuse("-S: SASL needs the binary protocol, so -B ascii cannot be");
    settings->protocol = "binary";
    return true;
}

/* An operator who asks for it relies on it. */
static bool check_privileges(const struct settings *settings)
{
    return !settings->drop_privileges || settings->built_in.seccomp ||
           refuse("-o drop_privileges: this build has no seccomp: build it where libseccomp is "
                  "installed");
}

bool settings_check(struct settings *settings)
{
    const char *protocol = settings->protocol;
    if (strcmp(protocol, "auto") != 0 && strcmp(protocol, "ascii") != 0 &&
        strcmp(protocol, "binary") != 0)
        return refuse("-B: \"%s\" is not among the protocols auto, ascii and binary; see --help",
                      protocol);
    if (!check_sasl(settings) || !check_udp(settings) || !check_privileges(settings) ||
        !check_auth_file(settings))
        return false;

    if (settings->tcp_port == SETTINGS_NOT_GIVEN) /* as in memcached, -U alone moves both ports */
        settings->tcp_port = settings->udp_port ? settings->udp_port : SETTINGS_PORT_DEFAULT;
    return true;
}
