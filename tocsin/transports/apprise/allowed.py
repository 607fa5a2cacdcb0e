"""What may be asked of Apprise: these services, each with these fields, and nothing else.

Read service by service against Apprise 2.3. A test holds both lists against the whole of the installed version: what is
new there is offered by nobody before a person has put it into one list or the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


REFUSED_ARGUMENTS = _names(
    # files of this machine, or content that is fetched or read for the message
    "attach callback callbackurl file_url filename icon image_href image_url keyfile media sound_href store subfile "
    "template "
    # addresses other than the service's own
    "actions avatar_url click discovery href hsreq icon_url link links url "
    # checks, redirects, time-outs and repetition, which are decided here
    "cto delay optional redirect retry rto timeout verify wait "
    # how the text is written and cut, and images
    "batch emojis footer_logo format image overflow preview tz "
    # what needs a memory from one message to the next
    "cache e2ee"
)
"""Arguments that no service is given, whatever it means by them."""

REFUSED_PREFIXED = _names(
    "add_tokens annotations badges custom data data_kwargs del_tokens details headers labels mapping meta meta_extras "
    "metadata params payload payload_extras postback tags template_data template_mapping tokens xtags"
)
"""Arguments that any name may follow (such as headers, after a `+`): none is offered."""

NOT_OFFERED: Mapping[str, str] = {
    **dict.fromkeys(_names("json jsons xml xmls form forms apprise apprises"), "a webhook posts to any address"),
    **dict.fromkeys(_names("mailto mailtos deltachat deltachats"), "it is mail, which has a type of its own"),
    **dict.fromkeys(
        _names("amqp amqps aprs growl irc ircs mqtt mqtts nostr rsyslog smpp smpps xmpp xmpps"), "it speaks no HTTP"
    ),
    **dict.fromkeys(_names("blink1 dbus gio glib gnome kde macosx qt syslog windows"), "it is for a desktop"),
    **dict.fromkeys(_names("fcm vapid"), "it reads its keys from files"),
    **dict.fromkeys(_names("session sessions sogs"), "it needs a memory from one message to the next"),
    "msg91": "it needs a template",
}
"""Services that are not offered, with the reason."""

_OFFERED: Mapping[str, str] = {
    "46elks elks": "from from_phone password targets to user",
    "acs": "access_key bcc cc endpoint from from_email key reply targets to",
    "atalk": "apikey appuser from mode targets to",
    "awswhatsapp":
        "access access_key_id bucket from_phone_id key lang region secret secret_access_key targets to token",
    "azure o365": "bcc cc client_id mode oauth_id oauth_secret reply_to savesent secret source targets tenant to",
    "bale": "targets to token",
    "bark barks":
        "action archive badge call category copy delete group host id key level password port sound subtitle "
        "targets to ttl user volume",
    "betterstack": "alert from from_addr host policy port targets team_wait to token",
    "bluesky bsky": "password user",
    "brevo": "apikey bcc cc from_email reply targets to",
    "bulksms": "from route targets to token_id token_secret unicode",
    "bulkvs": "from from_phone password targets to user",
    "burstsms kudosity": "apikey country from key secret sender_id targets to validity",
    "chanify": "token",
    "clickatell": "apikey from source targets to",
    "clicksend": "apikey key targets to user",
    "cliq zcliq zohocliq": "botname broadcast company region targets to token",
    "cm": "channels from source targets to token",
    "d7sms": "from source targets to token unicode",
    "dapnet": "password priority targets to txgroups user",
    "dingtalk": "secret targets to token",
    "discord": "avatar botname fields flags footer ping thread tts webhook_id webhook_token",
    "dot": "apikey border device_id dither_kernel dither_type mode refresh signature task_key",
    "eight00com": "from from_phone targets to token",
    "emby embys": "host modal password port user",
    "enigma2 enigma2s": "fullpath host password port user",
    "evolution evolutions": "apikey host instance port targets to",
    "exotel": "apikey from from_phone key priority region sid targets to token unicode",
    "feishu": "token",
    "firehydrant": "action dedup level priority tags token",
    "flock": "botname targets to token",
    "flowtriq flowtriqs": "apikey host path port",
    "fluxer fluxers":
        "avatar botname fields flags footer host mode name path ping port thread thread_name tts webhook_id "
        "webhook_token",
    "freemobile": "password user",
    "gchat": "key thread thread_key token webhook_key webhook_token workspace",
    "github": "assignees category kind labels number owner repo token",
    "goalert goalerts": "action dedup host path port targets to token",
    "gorush gorushs": "badge host mode password platform port priority sound targets to topic user",
    "gotify gotifys": "host path port priority token",
    "groundmail": "apikey bcc cc from from_addr name reply targets to",
    "groupme": "bot_id token",
    "guilded": "avatar botname fields flags footer ping thread tts webhook_id webhook_token",
    "gupshup": "apikey app from key source targets to",
    "hassio hassios": "accesstoken host nid password port prefix targets to token user",
    "httpsms": "apikey from from_phone key targets to",
    "humhub humhubs": "host password port targets to user",
    "ifttt": "events to webhook_id",
    "ilert": "action dedup key priority route",
    "incidentio": "action dedup source token",
    "infobip": "apikey from host key targets to",
    "instagram": "targets to token",
    "jellyfin jellyfins": "host modal password port user",
    "jira": "action alias apikey entity priority region tags targets to user",
    "join": "apikey priority targets to",
    "kakao kakaotalk": "client_id client_secret refresh_token secret targets to",
    "kaleyra klr": "apikey flash from key region sender sid targets to type",
    "kavenegar": "apikey from source targets to",
    "kodi kodis xbmc xbmcs": "duration host password port user",
    "kook": "mode targets to token",
    "kumulos": "apikey serverkey",
    "lametric lametrics": "apikey app_id app_token app_ver cycles host icon_type mode port priority sound user",
    "lark": "token",
    "lauther": "color group priority route sound token",
    "lfg": "token",
    "line": "targets to token",
    "mailersend": "apikey bcc cc from_email reply targets to",
    "mailgun": "apikey bcc cc from host name region targets to user",
    "mastodon mastodons toot toots": "host key language ping port sensitive spoiler targets to token visibility",
    "matrix matrixs": "autoverify host mode msgtype password path port targets to token user version",
    "misskey misskeys": "host port token visibility",
    "mmost mmosts": "botname channel channels fullpath host mode port team to token user",
    "mobilemessage mobilemsg": "from max_parts password ref sender targets to unicode user",
    "msgbird": "apikey from source targets to",
    "ncloud nclouds": "host password port targets to url_prefix user version",
    "nctalk nctalks": "host password port secret silent targets url_prefix user",
    "nexmo vonage": "apikey from from_phone key secret targets to ttl",
    "notica noticas": "host password path port token user",
    "notifiarr": "apikey event from key source targets to",
    "notifico notificos": "color host msghook password port prefix project project_id token user",
    "notifyapp": "device thread token urgent",
    "notifyre": "apikey campaign from header hq mode ref targets to",
    "ntfy ntfys": "auth email host mode password port priority targets to token topic user xtags",
    "octopush": "api_key api_login key login purpose replies sender targets to type",
    "onebot onebots": "host port targets to token",
    "onesignal": "apikey app contents decode lang language subtitle targets to",
    "opsgenie": "action alias apikey entity priority region tags targets to user",
    "opsimate opsimates": "action apikey dedup host path port severity token",
    "pagerduty": "action apikey class component dedup group integrationkey region severity source",
    "pagertree": "action dedup integration tags thirdparty tid urgency",
    "parsep parseps": "app_id device host master_key port",
    "pbul": "accesstoken targets to",
    "pinglet pinglets": "host namespace path port priority token topic",
    "pingram": "apikey bcc cc channels from mode region reply targets to type",
    "pjet pjets": "host password port secret secret_key user",
    "plivo": "auth_id from id source targets to token",
    "postmark": "apikey bcc cc from_email name reply targets to",
    "pover": "expire interval key priority sound targets to token url_title user_key",
    "prowl": "apikey priority providerkey",
    "psafer psafers": "priority privatekey sound targets to vibration",
    "push": "apikey",
    "pushdeer pushdeers": "host port pushkey",
    "pushed": "app_key app_secret targets to",
    "pushme": "push_key status token",
    "pushplus wecom": "channel mode name option targets to token topic webhook",
    "pushward":
        "ack apikey collapse expire failure info key level repeat snooze subtitle success thread volume "
        "warning",
    "pushy": "apikey badge key sound targets to",
    "qq": "token",
    "reddit": "ad app_id app_secret flair_id flair_text kind nsfw password replies resubmit spoiler targets to user",
    "resend": "apikey bcc cc from from_addr name reply targets to",
    "revolt": "bot_token channel targets to",
    "ringc": "client_id env from from_phone mode secret source targets to token",
    "rocket rockets": "avatar host mode password port targets to token user webhook",
    "ryver": "botname mode organization token",
    "schan": "token",
    "sendgrid": "apikey bcc cc from_email targets to",
    "sendpulse": "bcc cc client_id client_secret from host id secret targets to user",
    "serwersms": "from password sender targets to user",
    "ses":
        "access access_key_id bcc cc from from_email key name region reply secret secret_access_key targets "
        "to token",
    "seven": "apikey flash from label source targets to",
    "sfr": "from lang password sender space_id targets to user voice",
    "signal signals": "from from_phone host password port status targets to user",
    "signalgrid": "client_key critical targets to",
    "signl4": "action alerting_scenario dedup external_id filtering location secret service status",
    "simplepush spush": "broadcast critical_volume password priority shared sptag targets to token topic_auth_token",
    "sinch": "api_token from from_phone region service_plan_id spi targets to token",
    "slack":
        "access_token blocks botname footer mode targets timestamp to token token_a token_b token_c "
        "workflow_path",
    "smsc": "password sender targets to translit user",
    "smseagle smseagles": "flash host port priority status targets test to token",
    "smsmanager smsmgr": "apikey from gateway key sender targets to",
    "smstunnel": "apikey country device key targets to",
    "smtp2go": "apikey bcc cc host name targets to user",
    "sns": "access access_key_id key mode region secret secret_access_key targets to token",
    "sparkpost": "apikey bcc cc host name region targets to user",
    "spike": "token",
    "splunk victorops": "action apikey entity_id route routing_key",
    "spugpush": "token",
    "squadcast": "action dedup key priority region",
    "stackfield": "token",
    "strmlabs": "access_token alert_type amount call currency duration identifier name special_text_color",
    "synology synologys": "host password path port token user",
    "telesign": "apikey customer_id from key targets to type",
    "telnyx": "apikey from from_phone key profile targets to",
    "tgram": "album bot_token content detect mdv silent targets thread to topic",
    "threema": "from gateway_id gwid secret targets to",
    "trigv trigvs": "api_key event_type host port priority targets to urgency",
    "tweet twitter x": "akey asecret ckey csecret mode targets to",
    "twilio": "account_sid apikey auth_token from from_phone method sid targets to token",
    "twist": "email password targets to",
    "viber": "avatar from targets to token",
    "voipms": "email from from_phone password targets to",
    "webex wxteams": "access_token mode targets to token",
    "wechat": "host password targets to user",
    "wecombot": "key",
    "whapi": "targets to token",
    "whatsapp": "from from_phone_id lang targets to token",
    "workflow workflows": "api-version host id pa port powerautomate route routeid sig signature ver workflow wrap",
    "wpush": "apikey channel group option targets to topic topic_code",
    "wxpusher": "targets to token",
    "xmatters": "apikey host integration_id password recipients targets to user",
    "youlmk": "failure group info priority success token url_label warning",
    "zalo": "targets to token",
    "zoom": "mode token webhook_id",
    "zulip": "botname organization targets to token",
}
"""The names of a service, and those of its fields."""

class _Offered(Mapping[str, frozenset[str]]):
    """Reads the table where it is asked, so that it takes no more memory than its text."""

    def __getitem__(self, service: str) -> frozenset[str]:
        for names, fields in _OFFERED.items():
            if service in names.split():
                return _names(fields)
        raise KeyError(service)

    def __iter__(self) -> Iterator[str]:
        return (name for names in _OFFERED for name in names.split())

    def __len__(self) -> int:
        return sum(1 for _ in self)


OFFERED: Mapping[str, frozenset[str]] = _Offered()
"""The fields of each service, by each of its names."""


def unavailable(service: str) -> str | None:
    """Why a service of that name cannot be used, or None if it can."""
    if service in OFFERED:
        return None
    reason = NOT_OFFERED.get(service)
    return f"is not offered: {reason}" if reason else "is no service that is offered"
