#include "src/config/settings_check.h"

#include <stdio.h>
#include <string.h>

/* Only the text protocol asks for passwords: in another one a client would get in without. */
static enum settings_result check_auth_file(struct settings *settings)
{
    if (!settings->auth_file)
        return SETTINGS_RUN;
    if (strcmp(settings->protocol, "binary") == 0) {
        fprintf(stderr, "-Y is for the text protocol: it excludes -B binary and -S\n");
        return SETTINGS_BAD;
    }
    settings->protocol = "ascii";
    return SETTINGS_RUN;
}

static bool wants_certificates(const struct settings *settings)
{
    bool wants = settings->ssl_verify_mode >= SSL_VERIFY_REQUIRED;
    for (int i = 0; i < settings->listen_count; i++)
        wants = wants || strstr(settings->listen[i], "mtls:");
    return settings->enable_ssl && wants;
}

/* The option by which clients must say who they are, if there is one: a datagram cannot. Or
 * NULL. */
static const char *client_check(const struct settings *settings)
{
    if (settings->auth_file)
        return "-Y";
    if (settings->enable_sasl)
        return "-S";
    return wants_certificates(settings) ? "client certificates (mtls:, ssl_verify_mode)" : NULL;
}

/* A datagram names its sender, but anybody can write any name. */
static enum settings_result check_udp(struct settings *settings)
{
    if (settings->udp_port == 0)
        return SETTINGS_RUN;
    const char *excluded = client_check(settings);
    if (excluded) {
        fprintf(stderr, "-U: UDP knows no clients, so it excludes %s\n", excluded);
        return SETTINGS_BAD;
    }
    if (settings->unix_path) {
        fprintf(stderr, "warning: -U: no UDP, because -s turns the network off\n");
        settings->udp_port = 0;
    }
    return SETTINGS_RUN;
}

/* As in memcached, -U alone moves both ports. */
static void choose_tcp_port(struct settings *settings)
{
    if (settings->tcp_port == SETTINGS_NOT_GIVEN)
        settings->tcp_port = settings->udp_port ? settings->udp_port : SETTINGS_PORT_DEFAULT;
}

/* The text protocol has no SASL, so -S leaves only the binary one. */
static enum settings_result check_sasl(struct settings *settings)
{
    if (!settings->enable_sasl)
        return SETTINGS_RUN;
    if (!settings->built_in.sasl) {
        fprintf(stderr, "-S: this build has no SASL: build it where libsasl2 is installed\n");
        return SETTINGS_BAD;
    }
    if (strcmp(settings->protocol, "ascii") == 0) {
        fprintf(stderr, "-S: SASL needs the binary protocol, so -B ascii cannot be\n");
        return SETTINGS_BAD;
    }
    settings->protocol = "binary";
    return SETTINGS_RUN;
}

/* An operator who asks for it relies on it. */
static enum settings_result check_privileges(const struct settings *settings)
{
    if (!settings->drop_privileges || settings->built_in.seccomp)
        return SETTINGS_RUN;
    fprintf(stderr, "-o drop_privileges: this build has no seccomp: build it where libseccomp is "
                    "installed\n");
    return SETTINGS_BAD;
}

enum settings_result settings_check(struct settings *settings)
{
    if (strcmp(settings->protocol, "auto") != 0 && strcmp(settings->protocol, "ascii") != 0 &&
        strcmp(settings->protocol, "binary") != 0) {
        fprintf(stderr,
                "-B: \"%s\" is not among the protocols auto, ascii and binary; see --help\n",
                settings->protocol);
        return SETTINGS_BAD;
    }
    enum settings_result result = check_sasl(settings);
    if (result == SETTINGS_RUN)
        result = check_udp(settings);
    if (result == SETTINGS_RUN)
        result = check_privileges(settings);
    choose_tcp_port(settings);
    return result == SETTINGS_RUN ? check_auth_file(settings) : result;
}
