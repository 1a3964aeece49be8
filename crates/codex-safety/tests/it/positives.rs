//! What must be found, put together from parts so that no key stands in the repository as one string.

/// (rule, text, the part that must not survive).
pub(crate) fn positives() -> Vec<(&'static str, String, String)> {
    let chars = |n: usize, alphabet: &str| -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..n).map(|i| letters[(i * 7 + i * i * 3 + n) % letters.len()]).collect()
    };
    let alnum = |n| chars(n, "k3JxQ9mZ2vL8pR5wT7yB4nC6dF1gH0sAeUiO");
    let upper = |n| chars(n, "QWERTZ2UIOP3ASDF4GHJKL5YXCV6BNM7");
    let hex = |n| chars(n, "3f9a0c7e5b1d8246");
    let mut all: Vec<(&'static str, String, String)> = Vec::new();
    let mut add = |rule, before: &str, secret: String, after: &str| all.push((rule, format!("{before}{secret}{after}"), secret));

    add("aws-access-key", "aws_access_key_id = ", format!("AK{}{}", "IA", upper(16)), "\n");
    add("aws-access-key", "key ", format!("AS{}{}", "IA", upper(16)), ".");
    add("aws-secret-key", "aws_secret_access_key = \"", alnum(40), "\"");
    add("google-api-key", "?key=", format!("AI{}{}", "za", alnum(35)), "&x=1");
    add("google-oauth-secret", "client: ", format!("GOC{}{}", "SPX-", alnum(28)), "");
    add("azure-storage-key", "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=", format!("{}==", alnum(86)), ";EndpointSuffix=y");
    add("azure-sas", "https://x.blob.core.windows.net/c?sv=2022&sig=", format!("{}%3D", alnum(43)), "");
    add("github-token", "token: ", format!("gh{}{}", "p_", alnum(36)), "");
    add("github-token", "", format!("github_{}{}", "pat_", alnum(82)), " was used");
    add("gitlab-token", "PRIVATE-TOKEN: ", format!("gl{}{}", "pat-", alnum(20)), "");
    add("slack-token", "", format!("xo{}-{}-{}", "xb", "123456789012", alnum(24)), "");
    add("slack-webhook", "post to ", format!("https://hooks.{}/services/T00/B00/{}", "slack.com", alnum(24)), "");
    add("stripe-key", "stripe.api_key = '", format!("sk_{}_{}", "live", alnum(24)), "'");
    add("anthropic-key", "export K=", format!("sk-{}-api03-{}", "ant", alnum(60)), "");
    add("openai-key", "OPENAI=", format!("sk-{}-{}", "proj", alnum(48)), "");
    add("openai-key", "old style ", format!("sk-{}", alnum(48)), " here");
    add("huggingface-token", "login ", format!("hf{}{}", "_", alnum(34)), "");
    add("npm-token", "//registry.npmjs.org/:_authToken=", format!("npm{}{}", "_", alnum(36)), "");
    add("pypi-token", "twine -p ", format!("py{}-{}", "pi", alnum(80)), "");
    add("cargo-token", "cargo login ", format!("ci{}{}", "o", alnum(32)), "");
    add("sendgrid-key", "mail ", format!("S{}.{}.{}", "G", alnum(22), alnum(43)), "");
    add("mailgun-key", "api:", format!("ke{}-{}", "y", hex(32)), "");
    add("twilio-key", "sid ", format!("S{}{}", "K", hex(32)), "");
    add("digitalocean-token", "do ", format!("dop_{}_{}", "v1", hex(64)), "");
    add("telegram-token", "bot ", format!("123456789:{}{}", "AA", alnum(33)), "");
    add("discord-token", "discord bot ", format!("M{}.{}.{}", alnum(23), alnum(6), alnum(30)), "");
    add("shopify-token", "shop ", format!("shp{}_{}", "at", hex(32)), "");
    add("vault-token", "vault login ", format!("hv{}.{}", "s", alnum(30)), "");
    add("age-key", "# identity\n", format!("AGE-{}-KEY-1{}", "SECRET", upper(58)), "");
    add("jwt", "cookie=", format!("ey{}{}.ey{}{}.{}", "J", alnum(30), "J", alnum(40), alnum(43)), ";");
    add("authorization-header", "Authorization: Bearer ", alnum(40), "");
    add("authorization-header", "-H 'authorization: Basic ", format!("{}==", alnum(30)), "'");
    add("url-password", "postgres://app:", "tr0ub4dor-and-3".to_owned(), "@db.host.net:5432/app");
    add(
        "private-key",
        "cert:\n",
        format!("-----BEGIN RSA {} KEY-----\n{}\n{}\n-----END RSA {} KEY-----", "PRIVATE", alnum(64), alnum(64), "PRIVATE"),
        "\n",
    );
    add("private-key", "", format!("-----BEGIN OPENSSH {} KEY-----\n{}\n", "PRIVATE", alnum(64)), "");

    let typed = ["hunter2!x", "S3cr3t-Pa55", "Tr0ub4dor&3", "zX9#kQ2m!v"];
    for (before, after) in [
        ("password = \"", "\"\n"),
        ("\"password\": \"", "\","),
        ("const dbPassword = '", "';"),
        ("DB_PASSWORD=\"", "\""),
        ("<add key=\"x\" /> password='", "'"),
        ("config[\"api_key\"] = \"", "\""),
        ("self.secret_key: str; secret_key = '", "'"),
        ("passphrase: \"", "\""),
    ] {
        let secret = typed[before.len() % typed.len()].to_owned();
        add("password-in-code", before, secret, after);
    }
    add("password-in-code", "API_KEY=", alnum(32), "\n");
    add("password-in-code", "client_secret: ", alnum(24), "\n");

    add("email", "write to ", "jane.roe+list@posteo.de".to_owned(), " today");
    add("email", "<", "j_roe@mail.city.ac.uk".to_owned(), ">");
    add("ssn", "SSN ", "536-22-8721".to_owned(), ".");
    add("ssn-spaced", "social security number is ", "536 22 8721".to_owned(), "");
    add("card", "paid with ", "4111 1111 1111 1111".to_owned(), ", thanks");
    add("card", "amex ", "378282246310005".to_owned(), "");
    add("iban", "transfer to ", "DE89 3704 0044 0532 0130 00".to_owned(), "");
    add("iban", "account ", "GB82WEST12345698765432".to_owned(), "");
    add("phone-international", "call ", "+49 30 901820".to_owned(), "");
    add("phone-international", "", "+1 (415) 555-2671".to_owned(), " is hers");
    add("phone-international", "ring ", "+442079460958".to_owned(), "");
    add("phone-national", "at ", "(415) 555-2671".to_owned(), "");
    add("phone-national", "or ", "415-555-2671".to_owned(), "!");
    add("phone-named", "Tel.: ", "030 / 901 820".to_owned(), "");
    add("phone-named", "phone 0", "20 7946 0958".to_owned(), "");
    add("ipv4", "from ", "93.184.216.34".to_owned(), " port 22");
    add("ipv6", "host ", "2606:4700:4700::1111".to_owned(), "");
    all
}
