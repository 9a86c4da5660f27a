class NotesController < ApplicationController
  def index
    secret = Rails.application.secret_key_base
    render plain: "Rails #{Rails.version}, a secret of its own: #{secret == ENV["SECRET_KEY_BASE"] && secret.length >= 64}"
  end
end
